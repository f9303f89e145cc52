"""An interrupt that comes while processes are started or stopped takes effect only when that is done."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from patterns.facts import STRESS_DAG, Executor
from rig import interrupts
from rig.records import Relay
from rig.stack import processes
from rig.stack import state as states
from rig.stack.borrowing import Needs, Start, borrowed
from rig.stack.compose import ComposeStack
from rig.stack.compose_command import Compose
from rig.stack.interface import OnStep, Step
from rig.stack.native import NativeStack
from rig.stack.state import ServiceState, StackState
from tests.rig.plain_settings import PlainSettings
from tests.rig.pretended_stack import PretendedStack
from tests.rig.test_drivers import stack as state_of


@pytest.fixture(autouse=True)
def each_is_an_interrupt() -> Iterator[None]:
    before = [signal.signal(one, signal.default_int_handler) for one in interrupts.SIGNALS]
    yield
    for one, handler in zip(interrupts.SIGNALS, before, strict=True):
        signal.signal(one, handler)


def interrupted_twice(done: Callable[[], None]) -> None:
    with interrupts.put_off():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        done()


@pytest.mark.parametrize("number", interrupts.SIGNALS)
def test_an_interrupt_comes_when_the_block_has_ended(number: int) -> None:
    done = []

    def block() -> None:
        with interrupts.put_off():
            signal.raise_signal(number)
            done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        block()
    assert done


def test_two_of_them_come_as_one() -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted_twice(lambda: done.append("all of it"))
    assert done


def test_an_error_within_the_block_is_not_replaced_by_an_interrupt() -> None:
    def fails() -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        interrupted_twice(fails)


def test_another_thread_gets_no_signals_and_needs_no_delay() -> None:
    done: list[str] = []

    def block() -> None:
        with interrupts.put_off():
            done.append("all of it")

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert done


# --- where it is used: Ctrl-C comes when a part has been done -----------------------------------------


def at(moment: Step) -> OnStep:
    def on_step(_: str, step: Step, __: str) -> None:
        if step == moment:
            signal.raise_signal(signal.SIGINT)
    return on_step


def test_a_stack_of_processes_is_taken_down_to_the_end(tmp_path: Path) -> None:
    native = NativeStack(PlainSettings(data_dir=tmp_path), at("stopping"))
    native.folder.mkdir(parents=True)
    started = processes.start(["sleep", "600"], env=dict(os.environ), log=tmp_path / "log", cwd=tmp_path)
    services = {"redis": ServiceState(process=started, url=None, stop_signal=signal.SIGTERM, stop_timeout=30)}
    states.save(native.folder, state_of(tmp_path, services=services))
    with pytest.raises(KeyboardInterrupt):
        native.down()
    assert (processes.find(started), native.is_there()) == (None, False)


def test_a_stack_of_containers_is_taken_down_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(Compose, "run", lambda *words, **_: done.append("down" if "down" in words else "another"))
    with pytest.raises(KeyboardInterrupt):
        ComposeStack(PlainSettings(data_dir=tmp_path), at("stopping")).down()
    assert done == ["down"]


class Interrupted(PretendedStack):
    """Ctrl-C comes while it is switched."""

    def switch(self, executor: Executor, relay: Relay = "none", *, exhibit: bool = False,
               preload: bool = False) -> StackState:
        signal.raise_signal(signal.SIGINT)
        return super().switch(executor, relay, exhibit=exhibit, preload=preload)


def test_a_borrowed_stack_is_switched_back_to_the_end(tmp_path: Path) -> None:
    stack = Interrupted(tmp_path, state_of(tmp_path, executor="LocalExecutor"))
    start, needs = Start("CeleryExecutor", "process", 8), Needs((STRESS_DAG,))
    with pytest.raises(KeyboardInterrupt), borrowed(stack.seen_as, start, needs):
        stack.running = state_of(tmp_path, executor="CeleryExecutor")
    assert stack.asked == [("switch", "LocalExecutor", "none")]
