"""Every system call of a supervisor that may fail: it is survived, or tasks are not kept waiting."""

import errno
import os
import pkgutil
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testing.alive import is_alive
from testing.waiting import wait_until
from tests.worker_init.hosted import connect, each_upstream, is_served, kill_host, opened, serves, status_of
from worker_init.lifecycle import Worker

pytestmark = [pytest.mark.host, each_upstream]

TOO_MANY, NO_MEMORY, NO_PROCESS = (OSError(number, os.strerror(number)) for number in
                                   (errno.EMFILE, errno.ENOMEM, errno.EAGAIN))
CALLS = {
    "no descriptors for the channel": ("worker_init.spawned.socket.socketpair", TOO_MANY),
    "no memory for the channel": ("worker_init.spawned.socket.socketpair", MemoryError()),
    "no process": ("worker_init.spawned.os.posix_spawn", NO_PROCESS),
    "no memory for a process": ("worker_init.spawned.os.posix_spawn", NO_MEMORY),
    "no memory in this process": ("worker_init.spawned.os.posix_spawn", MemoryError()),
    "no interpreter": ("worker_init.spawned.os.posix_spawn", FileNotFoundError(errno.ENOENT, "gone")),
    "no process descriptor": ("worker_init.spawned.os.pidfd_open", TOO_MANY),
    "no memory to send": ("worker_init.channel.socket.send_fds", NO_MEMORY),
    "too many descriptors on the way": ("worker_init.channel.socket.send_fds",
                                        OSError(errno.ETOOMANYREFS, "too many references")),
    "the channel breaks": ("worker_init.channel.socket.send_fds", BrokenPipeError(errno.EPIPE, "broken")),
    "no memory to send, in this process": ("worker_init.channel.socket.send_fds", MemoryError()),
    "no memory to receive": ("worker_init.channel.socket.recv_fds", NO_MEMORY),
    "no memory to receive, in this process": ("worker_init.channel.socket.recv_fds", MemoryError()),
    "the channel is reset": ("worker_init.channel.socket.recv_fds", ConnectionResetError(errno.ECONNRESET, "reset")),
    "no memory to wait": ("worker_init.supervisor.select.poll", NO_MEMORY),
    "no memory to wait, in this process": ("worker_init.supervisor.select.poll", MemoryError()),
    "waiting for the end fails": ("worker_init.spawned.os.waitpid", InterruptedError(errno.EINTR, "interrupted")),
    "no memory for a message": ("worker_init.channel.json.dumps", MemoryError()),
    "no memory for what came": ("worker_init.channel.json.loads", MemoryError()),
}


class Failing:
    """A call that fails ``left`` times in the supervisor's thread, and works from then on."""

    def __init__(self, call: Callable[..., Any], error: BaseException) -> None:
        self._call = call
        self._error = error
        self.left = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self.left and threading.current_thread().name == "worker-init-supervisor":
            self.left -= 1
            raise self._error
        return self._call(*arguments, **options)


@pytest.fixture(params=[*CALLS])
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Failing:
    monkeypatch.setattr("worker_init.host_life.END_SECONDS", 0.5)
    name, error = CALLS[request.param]
    made = Failing(pkgutil.resolve_name(name), error)
    monkeypatch.setattr(name, made)
    return made


def test_a_call_that_fails_at_a_start_or_a_replacement_costs_a_moment(failing: Failing,
                                                                      environment: dict[str, str]) -> None:
    failing.left = 2
    with opened(environment) as (worker, supervisor):
        wait_until(lambda: serves(worker), "a host serves")
        assert failing.left < 2
        found = supervisor.environment(0)
        assert is_served(found)
        failing.left = 3
        kill_host(supervisor)
        wait_until(lambda: failing.left < 3 and serves(worker), "another host serves")
        assert is_served(found)


def test_a_call_that_fails_for_ever_makes_tasks_neither_wait_nor_fail_silently(
        failing: Failing, environment: dict[str, str], runtime_dir: Path) -> None:
    worker, task = Worker(), dict[str, str]()
    failing.left = 10**9
    worker.open(1, environment | {"WORKER_INIT_START_TIMEOUT": "0.5"})
    supervisor = worker._supervisor
    worker.enter(0, task)
    worker.leave()
    failing.left = 0
    worker.close()
    assert not [*runtime_dir.iterdir()]
    assert supervisor is None or task   # without a process descriptor a host serves all the same


@pytest.mark.parametrize(("name", "error"), [
    ("worker_init.supervisor.socket.socket", TOO_MANY), ("worker_init.supervisor.socket.socketpair", TOO_MANY),
    ("worker_init.supervisor.listen_for_status", TOO_MANY), ("worker_init.control.tempfile.mkdtemp", NO_MEMORY),
    ("worker_init.supervisor.threading.Thread.start", RuntimeError("can't start new thread"))])
def test_a_worker_that_has_no_room_for_a_supervisor_goes_without(
        name: str, error: Exception, environment: dict[str, str], runtime_dir: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error
    worker, task = Worker(), dict[str, str]()
    with monkeypatch.context() as patched:
        patched.setattr(name, fail)
        worker.open(1, environment)
    assert [note for _, note in worker._notes if note.startswith("tasks connect by themselves: ")]
    worker.enter(0, task)
    worker.leave()
    worker.close()
    assert task == {}
    assert not [*runtime_dir.iterdir()]


def test_a_pool_that_grows_where_there_are_no_sockets_shares_what_there_is(environment: dict[str, str]) -> None:
    with opened(environment) as (worker, supervisor):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            worker.grow(2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert supervisor.environment(1) == supervisor.environment(0)
        worker.grow(2)
        assert is_served(supervisor.environment(1))
        assert supervisor.environment(1) != supervisor.environment(0)


def test_a_supervisor_with_a_fault_of_its_own_lets_no_task_wait(
        environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(environment) as (worker, supervisor):
        found, pid = supervisor.environment(0), supervisor._pid
        monkeypatch.setattr(supervisor, "_look", Failing(lambda: None, ZeroDivisionError("a mistake")))
        supervisor._look.left = 1   # type: ignore[attr-defined]
        worker.grow(1)
        wait_until(lambda: not supervisor._watcher.is_alive(), "the thread has ended")
        with pytest.raises(ConnectionRefusedError):
            connect(found)
        assert supervisor.environment(0) == {}
        wait_until(lambda: not is_alive(pid), "no host is left alone")
        assert status_of(worker)["state"] == "off"
