"""Programs that the stack of containers runs: Ctrl-C in a terminal ends them only if it may, and then with children."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from rig.settings import PROJECT
from rig.stack import processes
from testing.alive import is_alive
from testing.waiting import LIMIT, wait_until

# In place of `docker`, a shell, and in place of its plugin, a child of the shell.
RUN = """
import contextlib, os, signal, subprocess, sys
from rig import interrupts
from rig.stack.compose_command import execute
from tests.rig.interrupted_start import Interrupted
signal.signal(signal.SIGINT, signal.default_int_handler)    # a shell's background job would ignore it
when, script = sys.argv[1:]
if when == "while it starts":
    subprocess.Popen = Interrupted
with interrupts.put_off() if when == "put off" else contextlib.nullcontext():
    execute(["sh", "-c", script], os.environ, None, stdin="")
"""
# The shell is there when the file is; it ends when "go" is there, and its child not at all.
ENDS_LATER = "echo $$ > pid.part; mv pid.part pid; until [ -e go ]; do sleep 0.05; done; touch done"
HAS_A_CHILD = "sleep 600 & echo $! > pid.part; mv pid.part pid; wait"
# Its input ends when the caller has begun to wait for it. It interrupts the caller, and has ended before it is ended.
INTERRUPTS = "cat; kill -INT $PPID"


def started(when: str, script: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", RUN, when, script], cwd=PROJECT, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def interrupted(folder: Path, when: str, script: str) -> tuple[int, int]:
    """Press Ctrl-C while a script runs; return the exit code and the pid that the script has told."""
    with started(when, f"cd {folder}; {script}") as process:
        wait_until((folder / "pid").exists, "the program runs")
        os.killpg(process.pid, signal.SIGINT)       # as the terminal does, to all that are in the foreground
        (folder / "go").touch()
        return process.wait(LIMIT), int((folder / "pid").read_text())


def test_a_program_that_must_not_be_interrupted_ends_by_itself(tmp_path: Path) -> None:
    code, _ = interrupted(tmp_path, "put off", ENDS_LATER)
    assert (code, (tmp_path / "done").exists()) == (-signal.SIGINT, True)


def test_a_program_that_is_interrupted_leaves_no_child_behind(tmp_path: Path) -> None:
    code, child = interrupted(tmp_path, "at once", HAS_A_CHILD)
    assert (code, is_alive(child)) == (-signal.SIGINT, False)


def test_a_program_that_is_interrupted_while_it_starts_is_ended_with_the_child_that_it_has_just_started() -> None:
    with started("while it starts", "sleep 600 & wait") as process:
        _, said = process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGINT
    assert not [one for one in processes.in_session(int(said.split()[0])) if is_alive(one.pid)]


def test_a_program_that_ends_by_itself_meanwhile_is_an_interruption_too() -> None:
    with started("at once", INTERRUPTS) as process:
        _, said = process.communicate(timeout=LIMIT)
    assert (process.returncode, said.splitlines()[-1]) == (-signal.SIGINT, "KeyboardInterrupt")
