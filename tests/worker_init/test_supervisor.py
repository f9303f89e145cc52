"""A worker's driver host under every fault of its surroundings: it comes back, or tasks are refused at once."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import pytest

import worker_init
from testing.alive import is_alive
from testing.waiting import wait_until
from tests.worker_init.hosted import connect, each_upstream, is_served, kill_host, opened, serves, status_of
from worker_init import spawned
from worker_init.address_request import AddressRequest, NoAddress, ask
from worker_init.control import CONTROL_SOCKET, find_folders
from worker_init.host_life import State
from worker_init.lifecycle import Worker
from worker_init.supervisor import Supervisor
from worker_init.targets import Target

pytestmark = pytest.mark.host

CHECKOUT = Path(worker_init.__file__).resolve().parents[1]


# Files of the deployment's, with the names of modules

SHADOWS = {
    "logging.py": "LEVEL = 'INFO'\n", "asyncio/__init__.py": "", "neo4j.py": "raise KeyError('NEO4J_TEST_SERVER')\n",
    "runpy.py": "raise RuntimeError\n", "importlib/__init__.py": "", "uvloop.py": "raise RuntimeError\n",
    "worker_init/__init__.py": "", "worker_init/host_process.py": "raise RuntimeError\n",
}


@pytest.mark.parametrize("path", [None, ".", os.pathsep], ids=["no path", "the working folder", "empty entries"])
def test_files_in_the_working_folder_are_not_taken_for_modules(
        path: str | None, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in SHADOWS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    environment.pop("PYTHONPATH", None)
    with opened(environment | ({} if path is None else {"PYTHONPATH": path})) as (_, supervisor):
        assert supervisor._life.state is State.SERVING
        assert is_served(supervisor.environment(0))
        assert supervisor.restarts == 0


def test_what_lies_beside_the_package_does_not_come_before_the_standard_library(
        environment: dict[str, str], tmp_path: Path) -> None:
    """As where somebody has installed asyncio 3.4.3, which harms nothing else."""
    shutil.copytree(CHECKOUT / "worker_init", tmp_path / "worker_init")
    (tmp_path / "asyncio").mkdir()
    (tmp_path / "asyncio" / "__init__.py").write_text("raise SyntaxError\n")
    code = """
import os, sys
sys.path.append(sys.argv[1])
sys.modules.pop("worker_init", None)
import importlib.util
from worker_init.lifecycle import Worker
worker = Worker()
worker.open(1, os.environ)
print(worker.status())
worker.close()
"""
    environment.pop("PYTHONPATH", None)
    done = subprocess.run([sys.executable, "-S", "-c", _with_packages() + code, str(tmp_path)], env=environment,
                          cwd="/", capture_output=True, text=True, timeout=60, check=True)
    assert "'serving'" in done.stdout, done.stderr


def _with_packages() -> str:
    """Return code that puts the installed packages on the path, but not the checkout."""
    packages = [entry for entry in sys.path if entry.endswith("site-packages")]
    return f"import sys; sys.path += {packages!r}\n"


# A host that dies, hangs, or cannot start

def asked_for(supervisor: Supervisor, upstream: str) -> dict[str, str]:
    """Ask for an upstream as a task does; return what another task would have in its environment for it."""
    address = ask(supervisor.folder, AddressRequest(0, Target(upstream.replace("127.0.0.1", "localhost"), "u", "p")))
    assert address
    wait_until(lambda: supervisor._kept, "the worker keeps its socket")
    username, password = address.credentials
    return {"NEO4J_WORKER_URI": f"bolt://{address.host}:{address.port}", "NEO4J_WORKER_USERNAME": username,
            "NEO4J_WORKER_PASSWORD": password}


@each_upstream
def test_a_killed_host_is_replaced_at_the_addresses_that_tasks_have_asked_for(
        environment: dict[str, str], upstream: str) -> None:
    with opened(environment) as (worker, supervisor):
        found = asked_for(supervisor, upstream)
        for _ in range(2):
            kill_host(supervisor)
            assert is_served(found)
            wait_until(lambda: serves(worker), "another serves")
        assert asked_for(supervisor, upstream) == found


def own_connections() -> set[tuple[object, object]]:
    return {(one.laddr, one.raddr) for one in psutil.Process().net_connections("inet") if one.raddr}


@each_upstream
def test_a_worker_with_too_many_open_files_keeps_no_socket_and_goes_on(
        environment: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = own_connections()      # other tests' in the same process
    with opened(environment) as (worker, supervisor), ExitStack() as files:
        wait_until(lambda: own_connections() <= others,
                   "the servers, which are in this process, have no connection that ends later")
        request = AddressRequest(0, Target("bolt://localhost:1", "u", "p"))
        with socket.socket(socket.AF_UNIX) as task:
            task.connect(str(supervisor.folder / CONTROL_SOCKET))
            resource.setrlimit(resource.RLIMIT_NOFILE, (task.fileno() + 1, hard))
            with suppress(OSError):
                while True:
                    files.enter_context(Path(os.devnull).open("rb"))
            try:
                task.sendall(request.line())
                wait_until(lambda: "will not outlive its driver host" in caplog.text, "it is said")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        files.close()
        assert not supervisor._kept
        kill_host(supervisor)
        assert is_served(supervisor.environment(0))
        wait_until(lambda: serves(worker), "another serves")


@each_upstream
def test_an_address_that_nobody_asks_the_next_host_for_is_given_up(environment: dict[str, str], upstream: str) -> None:
    with opened(environment | {"WORKER_INIT_IDLE_TIMEOUT": "0.3"}) as (worker, supervisor):
        found = asked_for(supervisor, upstream)
        kill_host(supervisor)
        wait_until(lambda: not supervisor._kept, "the worker has let go of it")
        with pytest.raises(ConnectionRefusedError):
            connect(found)
        assert serves(worker)


@each_upstream
def test_a_killed_host_is_replaced_at_the_same_address(environment: dict[str, str]) -> None:
    with opened(environment) as (worker, supervisor):
        found = supervisor.environment(0)
        killed = kill_host(supervisor)
        assert is_served(found)
        wait_until(lambda: serves(worker), "another serves")
        assert supervisor._pid != killed
        assert (supervisor.restarts, supervisor.environment(0)) == (1, found)


@each_upstream
def test_a_cold_shutdown_while_the_host_is_dead_leaves_nothing_behind(environment: dict[str, str],
                                                                     runtime_dir: Path) -> None:
    with opened(environment) as (worker, supervisor):
        for _ in range(4):      # the next pause is long enough
            wait_until(lambda: is_alive(supervisor._pid), "there is a host")
            kill_host(supervisor)
        wait_until(lambda: supervisor._life.state is State.DEAD, "the worker has seen it")
        worker.kill()
        assert not [*runtime_dir.iterdir()]
        assert not supervisor._watcher.is_alive()


def hosts_end_while_there_is(flag: Path) -> dict[str, str]:
    """Return what hosts need in their environment to end before they are ready, while the file is there."""
    (flag.parent / "sitecustomize.py").write_text(
        f"import os, sys\nif 'worker_init.host_process' in sys.orig_argv and os.path.exists({str(flag)!r}):\n"
        "    os._exit(7)\n")
    return {"PYTHONPATH": str(flag.parent)}


@each_upstream
def test_where_no_host_starts_tasks_are_refused_at_once_until_one_does(
        environment: dict[str, str], upstream: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = tmp_path / "broken"
    patient = hosts_end_while_there_is(broken) | {"WORKER_INIT_START_TIMEOUT": "2"}
    with opened(environment | patient) as (worker, supervisor):
        found, asked = supervisor.environment(0), asked_for(supervisor, upstream)
        broken.touch()
        kill_host(supervisor)
        wait_until(lambda: supervisor._life.is_refusing, "the worker does not make tasks wait any longer")
        wait_until(lambda: supervisor._life.state is State.DOWN and not supervisor._actions, "and refuses them")
        for each in (found, asked):
            with pytest.raises(ConnectionRefusedError):
                connect(each)
        with pytest.raises(NoAddress, match="cannot serve at present"):
            asked_for(supervisor, upstream)
        assert supervisor.environment(0) == {}
        assert status_of(worker)["state"] == "down"
        assert "exit code 7" in status_of(worker)["last_error"]
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", int(found["NEO4J_WORKER_URI"].rsplit(":", 1)[1])))
        worker.grow(2)
        broken.unlink()
        wait_until(lambda: serves(worker), "a host has been started after all")
        assert is_served(found)
        assert is_served(asked)
        assert asked_for(supervisor, upstream) == asked
        assert supervisor.environment(0) == found
        assert is_served(supervisor.environment(1))
    assert caplog.text.count("no driver host can be started") == 1


@each_upstream
def test_where_no_host_starts_at_all_the_worker_goes_without(environment: dict[str, str], tmp_path: Path,
                                                             runtime_dir: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    worker, task = Worker(), dict[str, str]()
    began = time.monotonic()
    worker.open(1, environment | hosts_end_while_there_is(broken) | {"WORKER_INIT_START_TIMEOUT": "30"})
    assert time.monotonic() - began < 15
    worker.enter(0, task)
    assert task == {}
    assert worker._notes[-1][1] == "tasks connect by themselves: the driver host ended with exit code 7"
    assert not [*runtime_dir.iterdir()]


STOPS_IN_ITS_SELF_TEST = """
import os, signal, sys
def hook(event, args):
    if event == "socket.connect" and os.path.exists({0!r}):
        os.unlink({0!r})
        os.kill(os.getpid(), signal.SIGSTOP)
if "worker_init.host_process" in sys.orig_argv:
    sys.addaudithook(hook)
"""


@each_upstream
def test_a_self_test_that_could_not_run_says_nothing_about_the_driver(environment: dict[str, str],
                                                                     tmp_path: Path) -> None:
    """A machine that was suspended meanwhile."""
    flag = tmp_path / "stop"
    (tmp_path / "sitecustomize.py").write_text(STOPS_IN_ITS_SELF_TEST.format(str(flag)))
    with opened(environment | {"PYTHONPATH": str(tmp_path)}) as (worker, supervisor):
        flag.touch()
        kill_host(supervisor)
        wait_until(lambda: not flag.exists() and is_stopped(supervisor._pid), "the next one stands still")
        stopped = supervisor._pid
        suspended_until = time.monotonic() + 10.5       # longer than the self-test may take
        wait_until(lambda: time.monotonic() > suspended_until, "the self-test has been too slow")
        os.kill(stopped, signal.SIGCONT)
        wait_until(lambda: serves(worker), "another host serves")
        assert supervisor._pid != stopped
        assert supervisor.unfit is None


def is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
    except OSError:
        return False


@each_upstream
def test_a_host_that_hangs_holds_nobody_up(environment: dict[str, str]) -> None:
    with opened(environment) as (worker, supervisor):
        os.kill(supervisor._pid, signal.SIGSTOP)
        worker.grow(300)
        # It came back while the host could not have answered: how long that takes is the machine's own affair.
        assert is_stopped(supervisor._pid)
        assert supervisor.environment(299)["NEO4J_WORKER_URI"]
        os.kill(supervisor._pid, signal.SIGCONT)
        wait_until(lambda: serves(worker) and len(status_of(worker)["drivers"]) == 300,
                   "the host has all of them")
        assert is_served(supervisor.environment(299))


@each_upstream
def test_a_host_that_hangs_is_killed_when_the_worker_ends(environment: dict[str, str]) -> None:
    with opened(environment) as (worker, supervisor):
        os.kill(supervisor._pid, signal.SIGSTOP)
        began = time.monotonic()
        worker.close()
        assert time.monotonic() - began < 15
        assert not is_alive(supervisor._pid)


# The runtime folder

@each_upstream
def test_tasks_are_served_and_the_status_comes_back_where_the_folder_was_removed(
        environment: dict[str, str], runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_init.supervisor._FOLDER_SECONDS", 0.2)
    with opened(environment) as (worker, supervisor):
        found, before = supervisor.environment(0), supervisor.folder
        with pool_process(supervisor) as first:
            wait_until(lambda: status_of(worker)["drivers"][0]["processes"] == [first],
                       "the host knows the pool process")
            remove(before)
            assert is_served(found)
        wait_until(lambda: find_folders(runtime_dir) == [before] and serves(worker), "there is one again")
        with pool_process(supervisor) as second:
            assert is_served(found)
            wait_until(lambda: status_of(worker)["drivers"][0]["processes"] == [second],
                       "the host knows the next one")
        take_the_name(before)
        wait_until(lambda: supervisor.folder != before and serves(worker), "there is another")
        before.unlink()
        kill_host(supervisor)
        wait_until(lambda: serves(worker), "the next host knows it, too")


def remove(folder: Path) -> None:
    """Take it away in one step: the host works in it, and rmtree fails where a file goes just before its turn."""
    aside = folder.with_name(f"removed-{folder.name}")
    folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)    # what the host removes meanwhile


def take_the_name(folder: Path) -> None:
    """Remove it and put a file in its place, also where the worker makes the folder again in between."""
    while not folder.is_file():
        remove(folder)
        with suppress(FileExistsError):
            folder.touch(exist_ok=False)


@contextmanager
def pool_process(supervisor: Supervisor) -> Iterator[int]:
    """Fork as a pool does."""
    pid = os.fork()
    if not pid:
        supervisor.enter(0)
        signal.pause()
        os._exit(0)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@each_upstream
def test_a_worker_that_cannot_have_another_folder_serves_without(
        environment: dict[str, str], runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker_init.supervisor._FOLDER_SECONDS", 0.2)
    with opened(environment) as (worker, supervisor):
        found = supervisor.environment(0)
        remove(runtime_dir)
        wait_until(lambda: supervisor._has_lost_folder, "the worker has seen it")
        with pool_process(supervisor):
            assert is_served(found)
        kill_host(supervisor)
        assert is_served(found)
        runtime_dir.mkdir()
        wait_until(lambda: serves(worker), "its status can be read again")


# The end of the worker, at every step of a respawn

DYING = """
import os, signal, sys, time
from worker_init import channel, spawned, supervisor
from worker_init.lifecycle import Worker

step = sys.argv[1]
worker = Worker()
if step == "start":
    armed = True
else:
    armed = False
    worker.open(2, os.environ)

def keeper():
    # As a pool process that was forked at this moment: it holds every descriptor of the worker's.
    if not os.fork():
        time.sleep(60)
        os._exit(0)

def die():
    print("host", worker_pid(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

def worker_pid():
    return last[0]

last = [0]
real_spawn, real_flush, real_descriptor = os.posix_spawn, channel.Channel.flush, spawned._descriptor_of

def spawn(*arguments, **options):
    if sys.argv[2] == "held":
        keeper()
    last[0] = real_spawn(*arguments, **options)
    if sys.argv[1] in ("start", "spawned"):
        die()
    return last[0]

def flush(self):
    if sys.argv[1] == "before the settings" and last[0]:
        die()
    real_flush(self)
    if sys.argv[1] == "after the settings" and last[0] and not self.has_more:
        die()

os.posix_spawn, channel.Channel.flush = spawn, flush
if armed:
    worker.open(2, os.environ)
os.kill(worker._supervisor._pid, signal.SIGKILL)
time.sleep(60)
"""


@pytest.mark.parametrize("held", ["held", "free"])
@pytest.mark.parametrize("step", ["start", "spawned", "before the settings", "after the settings"])
@each_upstream
def test_no_host_outlives_a_worker_that_is_killed_while_it_starts_one(step: str, held: str, runtime_dir: Path,
                                                                     environment: dict[str, str]) -> None:
    with subprocess.Popen([sys.executable, "-c", DYING, step, held], env=environment, cwd=CHECKOUT,
                          stdout=subprocess.PIPE, text=True, start_new_session=True) as worker:
        assert worker.stdout
        try:
            said = worker.stdout.readline().split()
            assert said, "the worker has ended otherwise"
            assert worker.wait(60) == -signal.SIGKILL
            wait_until(lambda: not is_alive(int(said[1])), "its host has ended as well", 30)
            assert not [*runtime_dir.iterdir()]
        finally:
            with suppress(ProcessLookupError):      # nobody held anything
                os.killpg(worker.pid, signal.SIGKILL)


@each_upstream
def test_a_process_that_somebody_else_has_reaped_is_not_killed_again(environment: dict[str, str],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Without process descriptors a pid is all there is, and it may be a stranger's by then."""
    monkeypatch.setattr(spawned, "_descriptor_of", lambda _: None)
    with opened(environment) as (_, supervisor):
        host = supervisor._host
        assert host
        os.kill(supervisor._pid, signal.SIGKILL)
        wait_until(host.poll, "it is reaped")
        with monkeypatch.context() as patched:
            patched.setattr("worker_init.spawned.os.kill", lambda *_: pytest.fail("a stranger was killed"))
            host.kill()
