"""An interrupt that comes while processes are started or stopped takes effect only when that is done."""

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rig import interrupts
from rig.stack.borrowing import Needs, Start, borrowed
from tests.rig.pretended_stack import PretendedStack


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


class Interrupted(PretendedStack):
    """Ctrl-C comes when a part of it has been taken down."""

    def down(self) -> None:
        signal.raise_signal(signal.SIGINT)
        super().down()


def test_a_stack_that_was_started_for_a_block_is_taken_down_to_the_end(tmp_path: Path) -> None:
    stack = Interrupted(tmp_path)
    start, needs = Start("CeleryExecutor", "process", 8), Needs(())
    with pytest.raises(KeyboardInterrupt), borrowed(stack.seen_as, start, needs):
        pass
    assert stack.asked[-1] == ("down",)
