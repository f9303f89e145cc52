"""A fault of the chaos suite says what it has struck, and that it has missed where that was nothing."""

import os
import random
import signal
import subprocess
from collections.abc import Iterator
from typing import cast

import psutil
import pytest

from chaos import proxy
from chaos.faults import FULL_DISK, Fault, Kind, MissedError, strike
from chaos.ground import Ground
from testing.waiting import eventually


class Filled:
    """A disk that can be filled."""

    def __init__(self) -> None:
        self._full = False

    def fill(self) -> None:
        self._full = True

    def make_room(self) -> None:
        self._full = False

    def is_full(self) -> bool:
        return self._full


class Ended:
    """A stack of which Redis has ended. It cannot be restarted."""

    def dead(self) -> list[str]:
        return ["redis"]


class Struck:
    """As much of a ground as a fault needs: tasks in a transaction, a process, a proxy, a disk, a stack."""

    def __init__(self, pid: int, busy: int = 1) -> None:
        self._pid = pid
        self._busy = busy
        self.proxy = proxy.Proxy(1)
        self.disk = Filled()
        self.stack = Ended()

    def tasks_in_a_transaction(self) -> set[int]:
        return {self._pid} if self._busy else set()

    def pid(self, _: str) -> int:
        return self._pid


@pytest.fixture
def victim() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def struck(ground: Struck, fault: Fault) -> str:
    return strike(cast("Ground", ground), fault, 0.0, random.Random(1), lambda: None)


def test_a_kill_says_whom_it_has_killed(victim: "subprocess.Popen[bytes]") -> None:
    said = struck(Struck(victim.pid), Fault("kill -9", "task"))
    assert said == f"process {victim.pid} was alive, and is dead, with 1 task in a transaction"
    assert victim.wait(60) == -signal.SIGKILL


def test_a_stop_says_who_stood_still_and_lets_it_go_on(victim: "subprocess.Popen[bytes]") -> None:
    assert f"process {victim.pid} stood still" in struck(Struck(victim.pid), Fault("stopped", "postgres"))
    eventually(lambda: psutil.Process(victim.pid).status() != psutil.STATUS_STOPPED)


def test_a_stop_that_somebody_else_ends_has_missed(victim: "subprocess.Popen[bytes]") -> None:
    def go_on() -> None:
        victim.send_signal(signal.SIGCONT)
        eventually(lambda: psutil.Process(victim.pid).status() != psutil.STATUS_STOPPED)
    with pytest.raises(MissedError, match="did not stand still"):
        strike(cast("Ground", Struck(victim.pid)), Fault("stopped", "postgres"), 0.0, random.Random(1), go_on)


@pytest.mark.parametrize("kind", ["kill -9", "stopped"])
def test_what_strikes_a_process_that_had_ended_has_missed(kind: Kind, victim: "subprocess.Popen[bytes]") -> None:
    victim.kill()
    victim.wait(60)
    with pytest.raises(MissedError, match="had ended"):
        struck(Struck(victim.pid), Fault(kind, "postgres"))


def test_what_strikes_while_nobody_is_in_a_transaction_has_missed(victim: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(MissedError, match="no task was within a transaction"):
        struck(Struck(victim.pid, busy=0), Fault("kill -9", "redis"))
    assert victim.poll() is None


@pytest.mark.parametrize("kind", ["cut", "delayed", "black hole"])
def test_a_network_that_carries_nothing_cannot_be_struck(kind: Kind) -> None:
    with pytest.raises(MissedError, match=r"^0 "):
        struck(Struck(os.getpid()), Fault(kind, "connections to Neo4j"))


def test_a_full_disk_says_what_ended_and_leaves_it_to_the_supervisor_who_records_it() -> None:
    ground = Struck(os.getpid())
    assert struck(ground, FULL_DISK) == (
        "no byte could be written for 0 s, and redis ended, with 1 task in a transaction")
    assert not ground.disk.is_full()
