"""Write the reference pages from the code that they describe: ``python -m testing.reference_pages``.

A test fails if a page differs from this output.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from rig import errors
from rig.cli import app
from rig.metrics import registry
from rig.settings import PROJECT
from worker_init import cli as worker_driver
from worker_init.settings import PREFIX, VARIABLES

FOLDER = PROJECT / "docs" / "reference"
NOTE = "This page is written by `python -m testing.reference_pages`.\n"
TARGET = re.compile(r"^([a-z-]+):.*?## (.*)$", re.MULTILINE)
SETTING = re.compile(r"^(?:# )?([A-Z_][A-Z0-9_]*)=(.*)$")
MARKUP = re.compile(r"\[/?(?:bold|dim|cyan|yellow)\]")


def pages() -> dict[Path, str]:
    """Return the text of each page."""
    return {FOLDER / f"{name}.md": f"# {title}\n\n{NOTE}\n" + "\n".join(lines) + "\n" for name, title, lines in (
        ("commands", "Commands", [*_make(), *_rig(), *_worker_driver()]),
        ("settings", "Settings", [*_rig_settings(), *_worker_settings()]),
        ("metrics", "Metrics", list(_metrics())),
        ("exit-codes", "Exit codes", list(_exit_codes())))}


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def _make() -> Iterator[str]:
    targets = TARGET.findall((PROJECT / "Makefile").read_text(encoding="utf-8"))
    yield from ("## `make`", "", "Options of the commands behind a target go into `ARGS`: `make compare "
                "ARGS='--profile quick'`.", "")
    yield from _table(("target", "what it does"), [(f"`make {name}`", about) for name, about in targets])


def _rig() -> Iterator[str]:
    yield from ("## `rig`", "")
    for name, command in typer.main.get_command(app).commands.items():     # type: ignore[attr-defined]
        yield from (f"### `rig {name}`", "", *_plain(command.help or ""), "")
        rows = [_option(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            yield from _table(("option", "default", "meaning"), rows)


def _plain(text: str) -> list[str]:
    return MARKUP.sub("", text).replace("\\[", "[").replace("<", "&lt;").splitlines()


def _option(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`", _default(parameter), _first(parameter.help)
    return ", ".join(f"`{name}`" for name in parameter.opts), _default(parameter), _first(parameter.help)


def _first(text: str | None) -> str:
    return " ".join(_plain(text or ""))


def _default(parameter: Any) -> str:
    value = parameter.default
    return "" if value is None or value is False or value is ... or parameter.required else f"`{value}`"


def _worker_driver() -> Iterator[str]:
    yield from ("## `worker-driver`", "", "The driver host without Celery, and a look at any host of this machine.", "")
    parser = worker_driver._parser()    # noqa: SLF001 - the command has no other list of its options
    verbs = next(action for action in parser._actions       # noqa: SLF001 - nor has argparse
                 if isinstance(action, argparse._SubParsersAction))     # noqa: SLF001
    about = {action.dest: action.help or "" for action in verbs._choices_actions}       # noqa: SLF001
    for name, verb in verbs.choices.items():
        yield from (f"### `worker-driver {name}`", "", f"{about[name][:1].upper()}{about[name][1:]}.", "")
        rows = [(", ".join(f"`{flag}`" for flag in action.option_strings), _meaning(action))
                for action in verb._actions if action.dest != "help"]       # noqa: SLF001
        if rows:
            yield from _table(("option", "meaning"), rows)


def _meaning(action: argparse.Action) -> str:
    return (action.help or "") % {"default": action.default}


def _rig_settings() -> Iterator[str]:
    yield from ("## The rig and the compose files", "", "They are read from the environment, then from "
                "`.env`. The rig, but not the compose files, reads another file if the environment has its name in "
                "`RIG_ENV_FILE`. An empty setting counts as not set. Times are in seconds. Port 0 means: a free one.",
                "")
    rows: list[tuple[str, str, str]] = []
    about: list[str] = []
    for line in (PROJECT / ".env.example").read_text(encoding="utf-8").splitlines():
        if setting := SETTING.match(line):
            default = f"`{setting[2]}`" if setting[2] and line[0] != "#" else ""
            rows.append((f"`{setting[1]}`", default, " ".join(about)))
            about = []
        elif line.startswith("# ") and not line.startswith("# ---"):
            about.append(line[2:].replace("<", "&lt;"))
        else:
            about = []
    yield from _table(("variable", "default", "meaning"), rows)


def _worker_settings() -> Iterator[str]:
    yield from ("## `worker_init`", "", "They are read once, from the environment of the Celery worker or of "
                "`worker-driver serve`. Times are in seconds.", "")
    yield from _table(("variable", "default", "meaning"),
                      [(f"`{PREFIX}{one.name}`", f"`{one.default}`" if one.default else "", one.meaning)
                       for one in VARIABLES])


def _metrics() -> Iterator[str]:
    yield from ("[Method](../method.md) says how they are measured, and what they cannot say.", "")
    for group, found in (("Metrics", registry.METRICS), ("Conditions", registry.CONDITIONS)):
        yield from (f"## {group}", "")
        yield from _table(("name", "kind", "unit", "better", "definition"),
                          [(f"`{one.name}`", one.kind, one.unit, one.better or "", one.definition) for one in found])


def _exit_codes() -> Iterator[str]:
    yield from ("An error is one line on standard error: what is wrong, and how to fix it.", "", "## `rig`", "")
    yield from _table(("code", "meaning"), [
        ("0", "Done. For a load test: every threshold was kept."),
        (str(errors.BROKEN), "It failed on the way: a service ended, a DAG run or a task failed, a threshold was "
                              "not kept."),
        (str(errors.BAD_INPUT), "It did not begin: an option, a setting or the machine does not allow it."),
        (str(errors.INTERRUPTED), "Ctrl-C or SIGTERM stopped it. What was measured is written.")])
    yield from ("## `worker-driver`", "")
    yield from _table(("code", "meaning"), [
        ("0", "Done; for `serve`: stopped by SIGTERM."), ("1", "It failed on the way."),
        ("2", "A setting or an option cannot be used.")])


def main() -> None:
    """Write them."""
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
