"""The lock of a data folder: one rig at a time, the others are told which one."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rig.errors import BadInput
from rig.stack import lock, processes

# As a rig does: it holds the lock and, where it is told to, starts a service, which outlives it.
HOLDER = """
import sys, pathlib
from rig.stack import lock, processes
folder = pathlib.Path(sys.argv[1])
with lock.hold(folder, "rig compare --seed 7"):
    if sys.argv[2:]:
        processes.start(sys.argv[2:], env={processes.MARK: str(folder)}, log=folder / "log", cwd=folder)
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_rig(data_dir: Path, *service: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a process that has the lock, until the block ends or kills it; ``service`` runs on."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, data_dir, *service], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    try:
        with process:
            assert process.stdout
            assert process.stdout.readline() == "held\n"
            yield process
    finally:
        processes.kill(list(processes.marked(str(data_dir))))


def test_a_second_rig_is_refused_and_told_which_one_holds_it(tmp_path: Path) -> None:
    with another_rig(tmp_path) as other, pytest.raises(BadInput) as caught, lock.hold(tmp_path, "rig up"):
        pytest.fail("both have it")
    assert str(caught.value) == (f"`rig compare --seed 7` (pid {other.pid}) is using the stack in {tmp_path} — "
                                 "wait for it or stop it with Ctrl-C there")
    assert caught.value.exit_code == 2


def test_the_refused_one_leaves_the_holder_its_lock_and_its_name(tmp_path: Path) -> None:
    with another_rig(tmp_path) as other:
        for _ in range(2):
            with pytest.raises(BadInput, match=f"pid {other.pid}"), lock.hold(tmp_path, "rig up"):
                pytest.fail("both have it")


def test_the_same_process_cannot_have_it_twice(tmp_path: Path) -> None:
    with (lock.hold(tmp_path, "rig up"), pytest.raises(BadInput, match=rf"`rig up` \(pid {os.getpid()}\)"),
          lock.hold(tmp_path, "rig down")):
        pytest.fail("both have it")


def test_what_needs_no_lock_of_its_own_can_still_ask_for_a_stack_that_nobody_uses(tmp_path: Path) -> None:
    lock.require_free(tmp_path)
    with another_rig(tmp_path) as other, pytest.raises(BadInput, match=rf"\(pid {other.pid}\) is using the stack"):
        lock.require_free(tmp_path)
    lock.require_free(tmp_path)


def test_it_is_free_again_after_its_holder(tmp_path: Path) -> None:
    with another_rig(tmp_path):
        pass
    with lock.hold(tmp_path, "rig up"):
        pass


def test_it_is_free_again_after_an_error_of_its_holder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), lock.hold(tmp_path, "rig up"):
        raise RuntimeError
    with lock.hold(tmp_path, "rig down"):
        pass


def test_it_is_free_again_after_a_kill_9_of_its_holder_while_its_services_run_on(tmp_path: Path) -> None:
    with another_rig(tmp_path, "sleep", "1000") as other:
        other.kill()
        other.wait()
        assert len(list(processes.marked(str(tmp_path)))) == 1
        with (lock.hold(tmp_path, "rig compare"),
              pytest.raises(BadInput, match=rf"`rig compare` \(pid {os.getpid()}\)"), lock.hold(tmp_path, "rig up")):
            pytest.fail("both have it")


def test_two_folders_have_locks_of_their_own(tmp_path: Path) -> None:
    with lock.hold(tmp_path / "a", "rig up"), lock.hold(tmp_path / "b", "rig up"):
        assert (tmp_path / "a").is_dir()


@pytest.mark.parametrize("known", ["", "{", '{"command": "rig up"}'])
def test_a_holder_that_has_not_said_its_name_yet_is_another_rig(known: str, tmp_path: Path) -> None:
    with another_rig(tmp_path):
        (tmp_path / lock.HOLDER_FILE).write_text(known)
        with pytest.raises(BadInput, match=r"^another rig is using the stack"), lock.hold(tmp_path, "rig up"):
            pytest.fail("both have it")


def test_a_folder_that_cannot_be_written_is_one_line_with_the_variable_to_change(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput) as caught, lock.hold(tmp_path / "file" / "results", "rig up"):
        pytest.fail("there is no such folder")
    assert str(caught.value).startswith(f"the folder {tmp_path / 'file' / 'results'} cannot be written: ")
    assert "RIG_DATA_DIR" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BadInput, match="cannot be written: Permission denied"), lock.hold(tmp_path, "rig up"):
            pytest.fail("it was written")
    finally:
        tmp_path.chmod(0o700)
