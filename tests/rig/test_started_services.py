"""What a test or a benchmark starts is stopped again, even if it does not serve, or the user presses Ctrl-C."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rig.errors import Hung, RigError, ServiceDied
from rig.stack import processes
from rig.stack.processes import MARK
from rig.stack.service import Check, Service
from testing import services

ENDS = "print('ERROR no memory')"
STAYS = "import time; time.sleep(600)"


@pytest.fixture(autouse=True)
def ctrl_c_is_an_interrupt() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def service(folder: Path, check: Check, program: str = STAYS) -> Service:
    return Service(name="a service", command=[sys.executable, "-c", program], cwd=folder, check=check,
                   env={**os.environ, MARK: str(folder)})


def is_left(folder: Path) -> bool:
    return any(processes.marked(str(folder)))


def refused() -> str | None:
    raise RigError("it refuses the password")


def interrupted() -> str | None:
    signal.raise_signal(signal.SIGINT)
    return "not yet"


@pytest.mark.parametrize(("check", "error", "said"), [
    (lambda: "not yet", Hung, "^a service does not serve after 0 s: not yet; its log: "),
    (refused, RigError, "^it refuses the password$"), (interrupted, KeyboardInterrupt, "^$")])
def test_one_that_does_not_serve_is_stopped(tmp_path: Path, check: Check, error: type[BaseException],
                                            said: str) -> None:
    with pytest.raises(error, match=said):
        services.start(service(tmp_path, check), tmp_path / "log", limit=0)
    assert not is_left(tmp_path)


def test_one_that_ends_instead_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServiceDied, match=r"^a service has ended instead of serving; its log: ") as caught:
        services.start(service(tmp_path, lambda: "not yet", ENDS), tmp_path / "log")
    assert caught.value.detail == "ERROR no memory"


def test_ctrl_c_while_it_is_started_or_stopped_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, stop = processes.start, processes.stop

    def interrupted_after_the_start(*arguments: Any, **options: Any) -> processes.Started:
        started = start(*arguments, **options)
        signal.raise_signal(signal.SIGINT)
        return started

    def interrupted_before_the_end(*arguments: Any, **options: Any) -> bool:
        signal.raise_signal(signal.SIGINT)
        return stop(*arguments, **options)

    monkeypatch.setattr(processes, "start", interrupted_after_the_start)
    monkeypatch.setattr(processes, "stop", interrupted_before_the_end)
    with pytest.raises(KeyboardInterrupt):
        services.start(service(tmp_path, lambda: None), tmp_path / "log")
    assert not is_left(tmp_path)


def test_one_that_runs_is_stopped_when_the_block_ends(tmp_path: Path) -> None:
    with services.running_service(service(tmp_path, lambda: None), tmp_path / "log") as started:
        assert processes.find(started)
    assert not is_left(tmp_path)
