"""The programs take every command of theirs that a page shows: each option is there, and has a value that it may have.

Nothing is run: the command lines are only parsed.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from rig import cli
from rig.experiment import profiles
from rig.settings import PROJECT
from rig.stack_choice import existing
from tests.rig.plain_settings import PlainSettings
from tests.test_docs import PAGES
from worker_init import cli as worker_driver

BLOCK = re.compile(r"^( *)```bash\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
# After variables that are set for it alone.
OURS = re.compile(r"""^\s*(?:[A-Z_]+=(?:'[^']*'|"[^"]*"|\S*)\s+)*(rig|make|worker-driver)\b""")
VARIABLE = re.compile(r"^([A-Z_]+)=(.*)$", re.DOTALL)
ENDS_COMMAND = {"&", "&&", "|", ";", ">"}
OF_TARGET = {"compare": ("compare",), "up": ("up",), "up-celery": ("up", "--executor", "celery"), "load": ("load",),
             "down": ("down",), "workers": ("workers",), "status": ("status",)}
"""The rig's command behind each target of the Makefile that has one."""
OF_OTHERS = {"chaos", "matrix"}
"""Targets that take ARGS and run another program, whose options are not looked at here."""
RIG = typer.main.get_command(cli.app)


class Shown(NamedTuple):
    """A command line, and the page that shows it."""

    page: Path
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}: {' '.join(self.words)}"


def shown() -> Iterator[Shown]:
    """Yield every command line of ours in the pages, without the variables before it and what comes behind it."""
    for page in PAGES:
        for _, block in BLOCK.findall(page.read_text(encoding="utf-8")):
            for line in filter(OURS.match, block.replace("\\\n", " ").splitlines()):
                yield Shown(page, tuple(_command(shlex.split(line, comments=True))))


def _command(words: list[str]) -> Iterator[str]:
    begun = False
    for word in words:
        if word in ENDS_COMMAND:
            return
        begun = begun or not VARIABLE.match(word)
        if begun:
            yield word


def of_rig(words: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the arguments of ``rig``, also behind ``make``; None for another program."""
    if words[0] == "rig":
        return words[1:]
    if words[0] != "make" or len(words) < 2 or words[1] not in OF_TARGET:
        return None
    variables = {match[1]: match[2] for match in map(VARIABLE.match, words[2:]) if match}
    return (*OF_TARGET[words[1]], *shlex.split(variables.get("ARGS", "")))


def parsed(arguments: tuple[str, ...]) -> dict[str, object]:
    """Return the options of a command of ``rig``, without running it."""
    command = RIG.commands[arguments[0]]        # type: ignore[attr-defined]
    found: dict[str, object] = command.make_context(arguments[0], list(arguments[1:])).params
    return found


ALL = sorted(set(shown()))
OF_RIG = [pytest.param(arguments, id=str(one)) for one in ALL if (arguments := of_rig(one.words))]
ELSEWHERE = [pytest.param(arguments, id=str(one)) for one in ALL
             if (arguments := of_rig(one.words)) and "--airflow-url" in arguments]
OF_WORKER_DRIVER = [pytest.param(one.words, id=str(one)) for one in ALL if one.words[0] == "worker-driver"]


@pytest.mark.parametrize("arguments", OF_RIG)
def test_rig_takes_the_command(arguments: tuple[str, ...]) -> None:
    parsed(arguments)


@pytest.mark.parametrize("words", OF_WORKER_DRIVER)
def test_worker_driver_takes_the_command(words: tuple[str, ...]) -> None:
    worker_driver._parser().parse_args(words[1:])


@pytest.mark.parametrize("arguments", ELSEWHERE)
def test_a_deployment_elsewhere_is_described_completely(arguments: tuple[str, ...]) -> None:
    options = parsed(arguments)
    wanted = cli._changed(profiles.named(str(options["profile"])), tasks=None, **{
        name: options[name] for name in ("executors", "patterns", "relays", "preload")})      # type: ignore[arg-type]
    existing(PlainSettings(), str(options["airflow_url"]), "token", wanted, tap=bool(options["tap"]))


def test_each_target_with_options_is_known() -> None:
    targets = {one.words[1] for one in ALL if one.words[0] == "make" and any(
        word.startswith("ARGS=") for word in one.words[2:])}
    assert targets - OF_OTHERS - set(OF_TARGET) == set()


def test_commands_are_found() -> None:
    assert len(OF_RIG) > 30
    assert len(OF_WORKER_DRIVER) > 5
    assert len(ELSEWHERE) == 2
