"""Processes of the stack: stopped to the last child, found again whatever their parent is now, never mistaken."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from tenacity import Retrying, stop_after_delay, wait_fixed

from rig.stack import processes
from rig.stack.processes import MARK, Started
from testing.alive import is_alive
from tests.patterns.task_process import forked

WAIT = "import signal; print('ready', flush=True); signal.pause()\n"
IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
# A process tells its pid by a file's name: what several write into one log at once can run together.
IMPORTS = "import os, pathlib, signal, subprocess, sys"
TELL = "pathlib.Path(os.environ['RIG_STACK'], f'pid-{os.getpid()}').touch(); signal.pause()"
# A child and a grandchild.
FAMILY = f"""
{IMPORTS}
sleeper = [sys.executable, "-c", {f"{IMPORTS}; {TELL}"!r}]
subprocess.Popen([sys.executable, "-c", "import subprocess, sys; subprocess.Popen(sys.argv[1:]).wait()", *sleeper])
"""
# A grandchild whose parent has ended: only the session and the mark tell whose it is.
ORPHANS = f"""
{IMPORTS}
if os.fork() == 0:
    if os.fork() == 0:
        {TELL}
    os._exit(0)
os.wait()
"""
FORKS_AT_ITS_END = f"""
{IMPORTS}
def end(*_):
    if os.fork() == 0:
        {TELL}
    os._exit(0)
signal.signal(signal.SIGTERM, end)
"""

Run = Callable[..., Started]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "service.log"


@pytest.fixture
def run(tmp_path: Path, log: Path) -> Iterator[Run]:
    """Return what starts a Python program that has said that it is ready; what is left of it is killed."""
    def start(program: str, *, user: str | None = None, env: Mapping[str, str] | None = None) -> Started:
        started = processes.start([sys.executable, "-c", program + WAIT], log=log, cwd=tmp_path, user=user,
                                  env={**os.environ, MARK: str(tmp_path), **(env or {})})
        eventually(lambda: "ready" in log.read_text())
        return started

    yield start
    processes.kill(list(processes.marked(str(tmp_path))))


def eventually(true: Callable[[], bool]) -> None:
    def check() -> None:
        assert true()
    Retrying(stop=stop_after_delay(30), wait=wait_fixed(0.02), reraise=True)(check)


def told_pids(log: Path) -> list[int]:
    """Return the pids that the program's processes have told beside their log."""
    return [int(path.name.removeprefix("pid-")) for path in log.parent.glob("pid-*")]


# --- start and find --------------------------------------------------------------------------------


def test_a_started_process_is_found_by_what_was_kept_of_it(run: Run) -> None:
    started = Started.model_validate_json(run("").model_dump_json())
    process = processes.find(started)
    assert process
    assert process.pid == started.pid


def test_it_has_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(run: Run) -> None:
    started = run("")
    assert os.getsid(started.pid) == os.getpgid(started.pid) == started.pid


def test_its_output_goes_to_its_log_which_only_this_user_can_read(run: Run, log: Path) -> None:
    run("import sys; print('out'); print('err', file=sys.stderr)\n")
    assert {"out", "err"} <= set(log.read_text().split())
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_a_second_start_adds_to_the_log(run: Run, log: Path) -> None:
    processes.stop(run("print('first')\n"), timeout=30)
    log.write_text(log.read_text().replace("ready", ""))
    run("print('second')\n")
    assert log.read_text().split()[0] == "first"


def test_it_reads_nothing_of_what_the_user_types(tmp_path: Path, log: Path) -> None:
    rig = ("import pathlib, sys, psutil; from rig.stack import processes; folder = pathlib.Path(sys.argv[1]); "
           "started = processes.start(['cat'], env={}, log=folder / 'service.log', cwd=folder); "
           "psutil.wait_procs(filter(None, [processes.find(started)]), timeout=30)")
    subprocess.run([sys.executable, "-c", rig, tmp_path], input="typed", text=True, check=True)
    assert log.read_text() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a process as another user")
def test_as_root_a_process_runs_as_another_user_without_roots_groups(log: Path) -> None:
    with forked(lambda: _id_as_nobody(log)):
        eventually(lambda: log.read_text().endswith("\n"))
    assert "(nobody)" in log.read_text()
    assert "root" not in log.read_text()


def _id_as_nobody(log: Path) -> None:
    os.setgroups([0])       # what a login gives root, and a container may not
    processes.start(["id"], env=os.environ, log=log, cwd=Path("/"), user="nobody")


class EndsAtOnce(psutil.Popen):
    """A program that has ended before anybody can look at it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        eventually(lambda: self.status() == psutil.STATUS_ZOMBIE)


def test_a_process_that_ends_at_once_has_been_started(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "Popen", EndsAtOnce)
    started = processes.start(["true"], env=os.environ, log=log, cwd=log.parent)
    assert processes.find(started) is None


def test_a_process_that_has_ended_is_not_found(run: Run) -> None:
    started = run("")
    processes.stop(started, timeout=30)
    assert processes.find(started) is None


def test_a_zombie_has_ended() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    try:
        started = Started.of(pid)
        eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        assert processes.find(started) is None
        assert processes.stop(started, timeout=0), "there is nothing to wait for"
    finally:
        os.waitpid(pid, 0)


def test_another_process_that_was_given_the_same_pid_is_not_mistaken_for_it(run: Run) -> None:
    started = run("")
    earlier = Started(pid=started.pid, since_boot=started.since_boot - 1)
    assert processes.find(earlier) is None
    assert processes.stop(earlier, timeout=0)
    assert processes.find(started), "a stranger was stopped"


@pytest.mark.skipif(sys.platform != "linux", reason="psutil reads from files only on Linux")
def test_it_is_still_found_after_the_clock_was_set(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started, booted = run(""), int(psutil.boot_time())
    before = started.started_at
    (ahead := tmp_path / "proc").mkdir()
    (ahead / str(started.pid)).symlink_to(f"/proc/{started.pid}")
    (ahead / "stat").write_text(Path("/proc/stat").read_text().replace(f"btime {booted}\n", f"btime {booted + 60}\n"))
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(ahead))
    assert processes.find(started)
    assert started.started_at > before + 30
    assert processes.stop(started, timeout=30)
    assert processes.find(started) is None


def test_the_calling_process_finds_itself() -> None:
    found = processes.find(processes.this_process())
    assert found
    assert found.pid == os.getpid()


# --- stop ------------------------------------------------------------------------------------------


def test_stop_lets_a_process_end_by_itself(run: Run) -> None:
    started = run("")
    assert processes.stop(started, timeout=30)
    assert not is_alive(started.pid)


def test_stop_sends_the_signal_that_the_service_wants(run: Run, log: Path) -> None:
    started = run("import signal; signal.signal(signal.SIGINT, lambda *_: exit(print('got SIGINT', flush=True)))\n")
    assert processes.stop(started, timeout=30, sign=signal.SIGINT)
    assert "got SIGINT" in log.read_text()


def test_stop_kills_what_ignores_its_signal_and_says_so(run: Run) -> None:
    started = run(IGNORES_SIGTERM)
    assert not processes.stop(started, timeout=0.2)
    assert not is_alive(started.pid)


def test_stop_ends_children_and_grandchildren_too(run: Run, log: Path) -> None:
    started = run(FAMILY)
    eventually(lambda: len(told_pids(log)) == 1)
    family = psutil.Process(started.pid).children(recursive=True)
    assert told_pids(log)[0] == family[-1].pid
    assert len(family) == 2
    processes.stop(started, timeout=30)
    assert not [process for process in family if is_alive(process.pid)]


def test_stop_ends_what_a_killed_process_leaves_behind(run: Run, log: Path) -> None:
    started = run(FAMILY + IGNORES_SIGTERM)
    eventually(lambda: len(told_pids(log)) == 1)
    assert not processes.stop(started, timeout=0.2)
    assert not is_alive(told_pids(log)[0])


def test_a_process_that_is_run_to_its_end_gives_its_exit_code(log: Path) -> None:
    command = [sys.executable, "-c", "print('worked'); exit(3)"]
    assert processes.run(command, env=os.environ, log=log, cwd=log.parent, timeout=30) == 3
    assert log.read_text() == "worked\n"


def test_a_process_that_does_not_end_in_its_time_is_killed_with_its_family(log: Path) -> None:
    env = {**os.environ, MARK: str(log.parent)}
    assert processes.run([sys.executable, "-c", FAMILY + WAIT], env=env, log=log, cwd=log.parent, timeout=1) is None
    assert not list(processes.marked(str(log.parent)))


def test_what_has_ended_meanwhile_has_ended_by_itself() -> None:
    with psutil.Popen(["true"]) as process:
        process.wait()
        assert processes.end(process, timeout=0, sign=signal.SIGTERM)


def test_kill_takes_those_that_have_ended_meanwhile(run: Run) -> None:
    process = processes.find(run(""))
    assert process
    processes.kill([process])
    processes.kill([process])
    assert not is_alive(process.pid)


# --- marked ----------------------------------------------------------------------------------------


def test_a_mark_finds_every_process_of_the_stack_orphans_too(run: Run, log: Path) -> None:
    started = run(ORPHANS)
    eventually(lambda: len(told_pids(log)) == 1)
    orphan = told_pids(log)[0]
    assert psutil.Process(orphan).ppid() != started.pid
    assert {process.pid for process in processes.marked(str(log.parent))} == {started.pid, orphan}


def test_the_mark_of_another_stack_is_not_taken_for_this_one(run: Run, tmp_path: Path) -> None:
    run("")
    assert not list(processes.marked(str(tmp_path / "other")))
    assert not list(processes.marked(str(tmp_path)[:-1]))


def test_the_process_that_asks_is_never_among_them(run: Run, log: Path) -> None:
    run(f"from rig.stack.processes import marked; print('found', list(marked({str(log.parent)!r})))\n")
    assert "found []" in log.read_text()


# --- session_of ------------------------------------------------------------------------------------


def left(started: Started, log: Path) -> set[int]:
    """Return what is left of a process's session."""
    return {process.pid for process in processes.session_of(started.pid, str(log.parent))}


def test_a_session_has_orphans_that_nobody_else_knows(run: Run, log: Path) -> None:
    started = run(ORPHANS)
    eventually(lambda: len(told_pids(log)) == 1)
    processes.stop(started, timeout=30)
    assert left(started, log) == set(told_pids(log))


def test_a_session_has_what_was_forked_at_the_very_end(run: Run, log: Path) -> None:
    started = run(FORKS_AT_ITS_END)
    processes.stop(started, timeout=30)
    eventually(lambda: len(told_pids(log)) == 1)
    assert left(started, log) == set(told_pids(log))


def test_a_session_has_what_a_process_that_died_by_itself_has_left(run: Run, log: Path) -> None:
    started = run(FAMILY)
    eventually(lambda: len(told_pids(log)) == 1)
    psutil.Process(started.pid).kill()
    eventually(lambda: processes.find(started) is None)
    assert len(left(started, log)) == 2
    assert set(told_pids(log)) < left(started, log)
    processes.kill(list(processes.session_of(started.pid, str(log.parent))))
    assert not left(started, log)


def test_a_session_has_nothing_of_another_stack_or_of_another_service(run: Run, log: Path, tmp_path: Path) -> None:
    one, other = run(""), run("")
    assert left(one, log) == {one.pid}
    assert left(other, log) == {other.pid}
    assert not list(processes.session_of(one.pid, str(tmp_path / "other")))
