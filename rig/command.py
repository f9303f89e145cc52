"""The command ``rig`` of an installed package: the command line, or a line that says what is missing."""

import sys

_EXTRA = "neo4j-airflow-connections[rig]"
_OURS = ("loadtest", "patterns", "rig", "worker_init")


def main() -> None:
    """Run the command line. The exit code is 2 if the extra ``rig`` with its packages is not installed."""
    try:
        from rig.cli import main as run  # noqa: PLC0415 - it imports packages that may be missing
        run()
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name in _OURS:
            raise
        sys.stderr.write(f"rig: the package {name} is not installed — pip install '{_EXTRA}' installs what rig needs\n")
        sys.exit(2)
