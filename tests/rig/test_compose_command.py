"""Programs that the stack of containers runs: Ctrl-C in a terminal ends them only if it may, and then with children."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from rig.settings import PROJECT
from testing.alive import is_alive
from testing.waiting import LIMIT, wait_until

# In place of `docker`, a shell, and in place of its plugin, a child of the shell.
RUN = """
import contextlib, os, signal, sys
from rig import interrupts
from rig.stack.compose_command import execute
signal.signal(signal.SIGINT, signal.default_int_handler)    # a shell's background job would ignore it
with interrupts.put_off() if sys.argv[1] == "put off" else contextlib.nullcontext():
    execute(["sh", "-c", sys.argv[2]], os.environ, None)
"""
# The shell is there when the file is; it ends when "go" is there, and its child not at all.
ENDS_LATER = "echo $$ > pid.part; mv pid.part pid; until [ -e go ]; do sleep 0.05; done; touch done"
HAS_A_CHILD = "sleep 600 & echo $! > pid.part; mv pid.part pid; wait"


def interrupted(folder: Path, when: str, script: str) -> tuple[int, int]:
    """Press Ctrl-C while a script runs; return the exit code and the pid that the script has told."""
    with subprocess.Popen([sys.executable, "-c", RUN, when, f"cd {folder}; {script}"], cwd=PROJECT,
                          stderr=subprocess.DEVNULL, start_new_session=True) as process:
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
