"""Processes of the stack: started detached, found again by another ``rig``, and stopped with all their children.

This is built on psutil. mirakuru was considered and rejected: it cannot stop what another process has started, and when
the process ends it kills what ``rig up`` should leave running.
"""

import os
import pwd
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil
from pydantic import BaseModel, ConfigDict
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

MARK = "RIG_STACK"      # in the environment of every process of a stack, whatever its present parent is


class Started(BaseModel):
    """A process that was started. The pid alone is not enough: it may have been given to another process since.

    ``since_boot`` is when it was started, in seconds after the machine was. It stays the same when the clock is set,
    which moves the time of day at which every running process was started.
    """

    model_config = ConfigDict(frozen=True)

    pid: int
    since_boot: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Return the identity of a running process."""
        return cls(pid=pid, since_boot=_since_boot(pid))

    @property
    def started_at(self) -> float:
        """When it was started, in seconds since the epoch, by the clock as it is set now."""
        return psutil.boot_time() + self.since_boot


def start(command: Sequence[str | Path], *, env: Mapping[str, str], log: Path, cwd: Path,
          user: str | None = None) -> Started:
    """Start a process in a session of its own, its output appended to ``log`` (mode 0600).

    With ``user`` the process runs as that user; only root can ask for it.
    """
    process = _open(command, env=env, log=log, cwd=cwd, user=user)     # kept: its pid stays taken if it ends at once
    return Started.of(process.pid)


def run(command: Sequence[str | Path], *, env: Mapping[str, str], log: Path, cwd: Path,
        timeout: float) -> int | None:
    """Run a process like ``start`` to its end and return its exit code.

    After ``timeout`` seconds it is killed with its children, and None returned.
    """
    process = _open(command, env=env, log=log, cwd=cwd)
    try:
        return int(process.wait(timeout))
    except psutil.TimeoutExpired:
        kill([process, *process.children(recursive=True)])
        return None


def _open(command: Sequence[str | Path], *, env: Mapping[str, str], log: Path, cwd: Path,
          user: str | None = None) -> psutil.Popen:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return psutil.Popen(
            [str(part) for part in command], env=dict(env), cwd=cwd, stdin=subprocess.DEVNULL,
            stdout=descriptor, stderr=subprocess.STDOUT, start_new_session=True,
            user=user, group=_group_of(user) if user else None, extra_groups=[] if user else None,
        )
    finally:
        os.close(descriptor)


def find(started: Started) -> psutil.Process | None:
    """Return the running process; None if it has ended (which includes a zombie)."""
    try:
        process = psutil.Process(started.pid)
        same = abs(_since_boot(started.pid) - started.since_boot) < 0.01
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def is_stopped(started: Started) -> bool:
    """Return whether a process exists but is stopped by somebody (SIGSTOP, Ctrl-Z)."""
    process = find(started)
    try:
        return process is not None and process.status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False


def this_process() -> Started:
    """Return the identity of the calling process."""
    return Started.of(os.getpid())


def stop(started: Started, *, timeout: float, sign: signal.Signals = signal.SIGTERM) -> bool:
    """Ask a process to end, wait, and kill its whole group if it does not.

    Returns whether it ended by itself within ``timeout`` seconds.
    """
    process = find(started)
    return process is None or end(process, timeout=timeout, sign=sign)


def end(process: psutil.Process, *, timeout: float, sign: signal.Signals) -> bool:
    """Like ``stop``, for a process that the caller itself has started. It may have ended already."""
    family = [process]
    with suppress(psutil.NoSuchProcess):
        family += process.children(recursive=True)
        process.send_signal(sign)
        process.send_signal(signal.SIGCONT)     # a stopped process would not receive the signal
    ended_itself = not psutil.wait_procs([process], timeout=timeout)[1]
    kill(family)
    return ended_itself


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill those of the processes that are still running, and wait until none of them runs.

    The parent of a killed process may take some time to reap it; a zombie holds no port and no file.
    """
    for process in processes:
        _kill(process)
    Retrying(retry=retry_if_result(bool), stop=stop_after_delay(10), wait=wait_fixed(0.02),
             retry_error_callback=lambda _: None)(lambda: [process for process in processes if _is_at_work(process)])
    psutil.wait_procs(processes, timeout=0)     # reaps those that are children of this process


def marked(stack_id: str) -> Iterator[psutil.Process]:
    """Yield every running process that has the mark of a stack, except the calling one."""
    for process in psutil.process_iter():
        if process.pid != os.getpid() and _mark_of(process) == stack_id:
            yield process


def session_of(leader: int, stack_id: str) -> Iterator[psutil.Process]:
    """Yield the remaining processes of the session of a process of a stack, even if that process has ended."""
    for process in marked(stack_id):
        if _session(process.pid) == leader:
            yield process


def in_session(leader: int) -> Iterator[psutil.Process]:
    """Yield the processes of a session, even if the one that began it has ended."""
    for process in psutil.process_iter():
        if _session(process.pid) == leader:
            yield process


def _since_boot(pid: int) -> float:
    boot = psutil.boot_time()       # first: some versions of psutil keep it for the other time
    return psutil.Process(pid).create_time() - boot


def _is_at_work(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
