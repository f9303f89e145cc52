"""A forked process has its own value, whatever was going on in its parent."""

import os
import subprocess
import sys

from patterns.per_process import PerProcess
from tests.patterns.task_process import forked

# A child that ends as a program does, with the atexit functions that it inherited.
ORDINARY_END = """
import os, sys
from patterns.per_process import PerProcess

value = PerProcess(list, lambda value: print(os.getpid() == parent, value, flush=True))
parent = os.getpid()
value.get().append("parent")
if os.fork() == 0:
    {use}
    sys.exit()
os.wait()
"""


def test_one_process_has_one_value() -> None:
    value: PerProcess[list[int]] = PerProcess(list, lambda _: None)
    assert value.get() is value.get()


def test_a_fork_has_a_new_value_and_keeps_its_parents_untouched() -> None:
    value: PerProcess[list[int]] = PerProcess(list, lambda _: None)
    value.get().append(1)

    def use() -> list[int]:
        value.get().append(2)
        return value.get()

    with forked(use) as child:
        assert child.result == [2]
    assert value.get() == [1]


def test_at_the_exit_of_a_task_its_own_value_is_handed_over() -> None:
    read, write = os.pipe()

    def handed_over(value: list[int]) -> None:
        os.write(write, bytes(value))

    value: PerProcess[list[int]] = PerProcess(list, handed_over)
    value.get().append(1)
    with forked(lambda: value.get().append(2)):
        assert os.read(read, 9) == b"\2"


def test_a_child_that_used_nothing_hands_over_nothing_of_its_parents() -> None:
    assert _lines(use="pass") == ["False []", "True ['parent']"]


def test_a_child_hands_over_what_is_its_own() -> None:
    assert set(_lines(use="value.get().append('child')")) == {"False ['child']", "True ['parent']"}


def _lines(use: str) -> list[str]:
    script = ORDINARY_END.format(use=use)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return ended.stdout.splitlines()
