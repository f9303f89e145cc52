"""Processes of the stack: started detached, found again by another ``rig``, and stopped to the last child.

psutil carries this. mirakuru was weighed and left: it cannot stop what another process has started, and at
the end of the process it kills what ``rig up`` is meant to leave running.
"""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict

MARK = "RIG_STACK"      # in the environment of every process of a stack, whoever became its parent since


class Started(BaseModel):
    """A process that was started: the pid alone may have been given to another one since."""

    model_config = ConfigDict(frozen=True)

    pid: int
    create_time: float


def start(command: Sequence[str | Path], *, env: Mapping[str, str], log: Path, cwd: Path,
          user: str | None = None) -> Started:
    """Start a process in a session of its own, its output appended to ``log`` (mode 0600).

    With ``user`` the process runs as that user; only root can ask for it.
    """
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = psutil.Popen(
            [str(part) for part in command], env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=descriptor, stderr=subprocess.STDOUT, start_new_session=True,
            user=user, group=_group_of(user) if user else None, extra_groups=[] if user else None,
        )
    finally:
        os.close(descriptor)
    return Started(pid=process.pid, create_time=process.create_time())


def find(started: Started) -> psutil.Process | None:
    """Return the running process, or None where it has ended (a zombie has)."""
    try:
        process = psutil.Process(started.pid)
        same = abs(process.create_time() - started.create_time) < 0.01
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def this_process() -> Started:
    """Return the identity of the calling process."""
    return Started(pid=os.getpid(), create_time=psutil.Process().create_time())


def stop(started: Started, *, timeout: float, sign: signal.Signals = signal.SIGTERM) -> bool:
    """Ask a process to end, wait, and kill it with all of its group if it does not.

    Returns whether it ended by itself within ``timeout`` seconds.
    """
    process = find(started)
    if process is None:
        return True
    family = [process, *process.children(recursive=True)]
    process.send_signal(sign)
    ended_itself = not psutil.wait_procs([process], timeout=timeout)[1]
    kill(family)
    return ended_itself


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill what is still running of these, and wait until it is gone."""
    for process in processes:
        _kill(process)
    psutil.wait_procs(processes, timeout=10)


def marked(stack_id: str) -> Iterator[psutil.Process]:
    """Yield every running process that carries the mark of a stack, except the calling one."""
    for process in psutil.process_iter():
        if process.pid != os.getpid() and _mark_of(process) == stack_id:
            yield process


def session_of(started: Started, stack_id: str) -> Iterator[psutil.Process]:
    """Yield what is left of the session that a process of a stack was started in, also when it has ended itself."""
    for process in marked(stack_id):
        if _session(process.pid) == started.pid:
            yield process


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:     # gone, or not ours to ask
        return None


def _mark_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(MARK)
    except (psutil.Error, OSError):     # another user's, or gone: in both cases not ours
        return None


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return


def _group_of(user: str) -> int:
    return pwd.getpwnam(user).pw_gid
