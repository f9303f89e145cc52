"""A program that a test runs has ended when its block has, whatever the program and the block do."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from testing.alive import is_alive
from testing.programs import running_program
from tests.rig.interrupted_start import Interrupted

READY = "print('ready', flush=True); "
WAITS = "import time; time.sleep(600)"
ENDS_WELL = f"import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); {READY}{WAITS}"
IGNORES = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}{WAITS}"
HAS_A_CHILD = ("import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
               f"print(subprocess.Popen(['sleep', '600']).pid, flush=True); {WAITS}")


@contextmanager
def running(program: str, **options: Any) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """Run a program; yield it and the first line that it prints."""
    with running_program([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, **options) as process:
        assert process.stdout
        yield process, process.stdout.readline().strip()


def test_one_that_ends_when_it_is_asked_is_not_killed() -> None:
    with running(ENDS_WELL) as (process, _):
        pass
    assert process.returncode == 7


def test_one_that_does_not_end_is_killed_with_its_children() -> None:
    with running(HAS_A_CHILD, patience=0.1) as (process, child):
        pass
    assert (process.returncode, is_alive(int(child))) == (-signal.SIGKILL, False)


def test_an_error_in_the_block_ends_it_and_is_raised() -> None:
    with pytest.raises(ValueError, match="of the block"), running(IGNORES, patience=0.1) as (process, _):
        raise ValueError("of the block")
    assert process.returncode == -signal.SIGKILL


def test_ctrl_c_while_it_is_ended_comes_when_it_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    send = subprocess.Popen.send_signal

    def interrupted(process: "subprocess.Popen[str]", number: int) -> None:
        signal.raise_signal(signal.SIGINT)
        send(process, number)
    monkeypatch.setattr(subprocess.Popen, "send_signal", interrupted)
    with pytest.raises(KeyboardInterrupt), running(ENDS_WELL) as (process, _):
        pass
    assert process.returncode == 7


def test_ctrl_c_while_it_starts_ends_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), running_program(["sleep", "600"]):
        pass
    assert not is_alive(int(capsys.readouterr().err))


def test_one_that_has_ended_by_itself_keeps_its_exit_code() -> None:
    with running("raise SystemExit(3)") as (process, _):
        process.wait()
    assert process.returncode == 3
