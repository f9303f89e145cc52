"""The command ``rig`` where it is installed: the command line, or the line that says what is missing for it."""

import sys

_EXTRA = "neo4j-airflow-connections[rig]"
_OURS = ("loadtest", "patterns", "rig", "worker_init")


def main() -> None:
    """Run the command line. Exit code 2 where the extra ``rig`` is not installed, which brings what it needs."""
    try:
        from rig.cli import main as run  # noqa: PLC0415 - it imports what may not be there
        run()
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in _OURS:
            raise
        sys.stderr.write(f"rig: the package {name} is not installed — pip install '{_EXTRA}' installs what rig needs\n")
        sys.exit(2)
