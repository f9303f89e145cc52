"""The runtime folder and the environment file: nothing that another user does with names has an effect."""

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testing.programs import running_program
from testing.waiting import wait_until
from worker_init.control import (
    find_folders,
    folder_for,
    folder_of,
    listen_for_status,
    make_folder,
    read_status,
    remove_folder,
    renew_folder,
    set_paused,
)
from worker_init.errors import BadSetting, WorkerInitError
from worker_init.lifecycle import Worker
from worker_init.settings import Settings, runtime_dirs

pytestmark = pytest.mark.host

RUNTIME_DIR = "WORKER_INIT_RUNTIME_DIR"
NOWHERE = {"NEO4J_URI": "bolt://127.0.0.1:1", "NEO4J_PASSWORD": "x", "WORKER_INIT_CONNECTION_IDS": ""}


@pytest.fixture
def parent() -> Iterator[Path]:
    """Make a folder like /tmp, with a short path."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o1777)
    yield made
    shutil.rmtree(made)


def names() -> str:
    return f"worker-init-{os.getuid()}-x"


def test_a_folder_is_its_owners_alone(parent: Path) -> None:
    folder = make_folder(parent)
    assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
    with listen_for_status(folder):
        assert find_folders(parent) == [folder]
    remove_folder(folder)
    assert not [*parent.iterdir()]


def open_to_all(path: Path) -> None:
    path.mkdir()
    path.chmod(0o755)
    listen_for_status(path).close()


def make_folder_with_socket(parent: Path) -> Path:
    made = Path(tempfile.mkdtemp(dir=parent))
    listen_for_status(made).close()
    return made


FOUND_THERE: dict[str, Callable[[Path], object]] = {
    "a link to nothing": lambda path: path.symlink_to("/nonexistent"),
    "a link to a folder": lambda path: path.symlink_to(make_folder_with_socket(path.parent.parent)),
    "a file": lambda path: path.touch(),
    "a folder without a socket": lambda path: path.mkdir(mode=0o700),
    "a folder that others may enter": open_to_all,
    "a folder whose socket is a file": lambda path: touched(made(path, 0o700) / "control"),
    "a folder whose socket is a link": lambda path: linked(made(path, 0o700) / "control"),
}


@pytest.mark.parametrize("put", FOUND_THERE.values(), ids=FOUND_THERE)
def test_what_is_not_a_hosts_folder_is_not_there(put: Callable[[Path], object], parent: Path) -> None:
    (parent / "sub").mkdir()
    put(parent / "sub" / names())
    with listen_for_status(mine := make_folder(parent / "sub")):
        assert find_folders(parent / "sub") == [mine]
    done = status_of(parent / "sub")
    assert (done.returncode, done.stderr) == (1, "")    # its host does not answer
    assert done.stdout.count('"folder"') == 1


def status_of(parent: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "worker_init.cli", "status", "--json"], capture_output=True, text=True,
                          env={**os.environ, RUNTIME_DIR: str(parent)}, timeout=60, check=False)


def test_a_socket_of_another_user_is_not_asked(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_folder(parent)
    with listen_for_status(folder):
        monkeypatch.setattr("worker_init.control.os.getuid", lambda: os.geteuid() + 1)
        with pytest.raises(WorkerInitError, match="it is the socket of user"):
            read_status(folder, 1)


def test_a_folder_that_was_removed_is_made_again_and_a_name_that_was_taken_is_left(parent: Path) -> None:
    folder = make_folder(parent)
    assert renew_folder(folder) == folder
    folder.rmdir()
    assert renew_folder(folder) == folder
    folder.rmdir()
    folder.symlink_to(parent)
    other = renew_folder(folder)
    assert other != folder
    remove_folder(folder)
    assert folder.is_symlink()
    shutil.rmtree(parent, ignore_errors=True)
    with pytest.raises(BadSetting, match=RUNTIME_DIR):
        renew_folder(other)
    parent.mkdir()


def test_a_host_has_the_folder_of_its_environment_file_each_time(parent: Path) -> None:
    file, usual = parent / "env", folder_of(parent, parent / "env")
    for _ in range(2):
        with folder_for(parent, file) as folder, listen_for_status(folder):
            assert folder == usual
            assert find_folders(parent) == [usual]
        assert not [*parent.iterdir()]
    assert folder_of(parent, parent / "other") != usual


def test_what_a_killed_host_has_left_in_its_folder_is_not_its_successors(parent: Path) -> None:
    usual = folder_of(parent, parent / "env")
    listen_for_status(made(usual, 0o700)).close()
    set_paused(usual, paused=True)
    with folder_for(parent, parent / "env") as folder:
        assert folder == usual
        assert not [*folder.iterdir()]


def test_a_host_that_runs_keeps_its_folder(parent: Path, caplog: pytest.LogCaptureFixture) -> None:
    with folder_for(parent, parent / "env") as first, listen_for_status(first):
        with folder_for(parent, parent / "env") as second:
            assert second != first
        assert find_folders(parent) == [first]
    assert f"the folder {first} cannot be used: another driver host has it. So this host has {second}" in caplog.text


def test_what_cannot_be_removed_is_named_once(parent: Path, caplog: pytest.LogCaptureFixture) -> None:
    usual = made(folder_of(parent, parent / "env"), 0o700)
    foreign = made(usual / "no host made this")     # a folder cannot be removed as a file is
    with folder_for(parent, parent / "env") as folder:
        assert folder != usual
    with pytest.raises(OSError, match=str(foreign)) as refused:
        foreign.unlink()
    assert (f"the folder {usual} cannot be used: 'no host made this' in it cannot be removed: "
            f"{refused.value.strerror}. So this host has {folder}") in caplog.text


def test_a_folder_that_is_removed_while_it_is_taken_is_said_in_the_systems_words(
        parent: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    usual, flock = folder_of(parent, parent / "env"), fcntl.flock

    def removed(descriptor: int, how: int) -> None:
        flock(descriptor, how)
        usual.rmdir()
    monkeypatch.setattr(fcntl, "flock", removed)
    with folder_for(parent, parent / "env") as folder:
        assert folder != usual
    assert f"the folder {usual} cannot be used: No such file or directory. So this host has {folder}" in caplog.text


@pytest.mark.parametrize("put", [FOUND_THERE[what] for what in (
    "a link to nothing", "a link to a folder", "a file", "a folder that others may enter")])
def test_what_has_the_name_of_a_hosts_folder_is_neither_used_nor_removed(
        put: Callable[[Path], object], parent: Path, caplog: pytest.LogCaptureFixture) -> None:
    (parent / "sub").mkdir()
    put(usual := folder_of(parent / "sub", parent / "env"))
    before = usual.lstat()
    with folder_for(parent / "sub", parent / "env") as folder:
        assert folder != usual
        assert stat.S_IMODE(folder.lstat().st_mode) == 0o700
    assert os.path.samestat(usual.lstat(), before)
    assert f"the folder {usual} cannot be used: it is not a folder of this user's alone. " in caplog.text


BAD: dict[str, Callable[[Path], Path]] = {
    "missing": lambda parent: parent / "none",
    "a file": lambda parent: touched(parent / "file"),
    "too long": lambda parent: made(parent / ("x" * 100)),
    "a link to nothing": lambda parent: linked(parent / "link"),
}


def touched(path: Path) -> Path:
    path.touch()
    return path


def made(path: Path, mode: int = 0o777) -> Path:
    path.mkdir(mode=mode)
    return path


def linked(path: Path) -> Path:
    path.symlink_to("/nonexistent")
    return path


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_folder_that_cannot_be_used_turns_the_package_off_with_a_line(bad: Callable[[Path], Path],
                                                                       parent: Path) -> None:
    (value := parent / "in").mkdir()
    path = bad(value)
    before = sorted(value.rglob("*"))
    worker = Worker()
    worker.open(1, {**NOWHERE, RUNTIME_DIR: str(path)})
    assert worker.status() is None
    assert len(worker._notes) == 1
    assert worker._notes[0][1].startswith(f"tasks connect by themselves: {RUNTIME_DIR}={path} ")
    done = subprocess.run([sys.executable, "-m", "worker_init.cli", "serve"], capture_output=True, text=True,
                          env={**os.environ, **NOWHERE, RUNTIME_DIR: str(path)}, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"worker-driver: {RUNTIME_DIR}={path} ")
    assert "Traceback" not in done.stderr
    assert sorted(value.rglob("*")) == before


def test_the_longest_path_that_a_socket_may_have_is_used(parent: Path) -> None:
    fits = parent / ("x" * (107 - len(str(parent / "a" / names() / "control")) - 6))
    fits.mkdir()
    folder = make_folder(fits)
    with listen_for_status(folder):
        assert len(str(folder / "control")) == 107
    longer = parent / f"{fits.name}x"
    longer.mkdir()
    with pytest.raises(BadSetting, match="108 bytes, and 107 are allowed"):
        make_folder(longer)


def test_without_a_setting_it_is_where_no_other_user_can_make_names(parent: Path) -> None:
    own = parent / "own"
    own.mkdir(mode=0o700)
    temporary = Path(tempfile.gettempdir())
    for environment, expected in [({}, temporary), ({"XDG_RUNTIME_DIR": str(own)}, own),
                                  ({"XDG_RUNTIME_DIR": str(parent)}, temporary),      # others may write there
                                  ({"XDG_RUNTIME_DIR": f"{own}/none"}, temporary),
                                  ({"XDG_RUNTIME_DIR": str(own), RUNTIME_DIR: str(parent)}, parent)]:
        settings = Settings.from_environment(environment)
        assert settings.runtime_dir == expected
        assert runtime_dirs(settings, environment)[0] == expected
    environment = {"XDG_RUNTIME_DIR": str(own)}
    assert runtime_dirs(Settings.from_environment(environment), environment) == (own, temporary)


def test_without_any_temporary_folder_the_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError
    monkeypatch.setattr("worker_init.settings.tempfile.gettempdir", none)
    worker = Worker()
    worker.open(1, NOWHERE)
    assert [note for _, note in worker._notes if RUNTIME_DIR in note]


@pytest.fixture
def mallory() -> Iterator[Callable[[str], str]]:
    """Another user of the machine, who runs commands."""
    if os.getuid() != 0 or not shutil.which("useradd"):
        pytest.skip("only root can make another user")
    subprocess.run(["useradd", "-M", "mallory"], check=True)

    def run(command: str) -> str:
        return subprocess.run(["su", "mallory", "-s", "/bin/sh", "-c", command], cwd="/", capture_output=True,
                              text=True, check=False).stdout
    yield run
    subprocess.run(["userdel", "mallory"], check=True, capture_output=True)


TRAPS = {
    "a file with the name of the first draft": "touch env.part; chmod 666 env.part",
    "a link with that name": "touch caught; chmod 666 caught; ln -s caught env.part",
    "a file with the name itself": "touch env; chmod 666 env",
    "a link with the name itself": "touch caught; chmod 666 caught; ln -s caught env",
    "a folder with the name of the host's": "mkdir {folder}; chmod 777 {folder}; touch {folder}/control",
    "links with the names of runtime folders": "ln -s /nonexistent worker-init-0-a; ln -s . worker-init-0-b",
}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_another_user_neither_reads_the_password_nor_breaks_anything(
        trap: str, mallory: Callable[[str], str], parent: Path) -> None:
    file = parent / "env"
    mallory(f"cd {parent}; {trap.format(folder=folder_of(parent, file))}")
    environment = {**os.environ, **NOWHERE, RUNTIME_DIR: str(parent)}
    with running_program([sys.executable, "-m", "worker_init.cli", "serve", "--environment-file", str(file)],
                         env=environment, stderr=subprocess.PIPE, text=True) as host:
        wait_until(lambda: host.poll() is not None or (file.exists() and "NEO4J" in file.read_text()), "it serves")
        seen = mallory(f"cat {parent}/* {parent}/.* 2>/dev/null")
        status = status_of(parent)
        assert stat.S_IMODE(file.lstat().st_mode) == 0o600
        assert file.lstat().st_uid == os.getuid()
        host.terminate()
        assert host.wait(60) == 0
    assert "NEO4J_WORKER_PASSWORD" not in seen
    assert (status.returncode, status.stderr) == (0, "")
    assert not os.path.lexists(file)


def test_serve_says_what_it_serves_and_where_the_variables_are(parent: Path) -> None:
    file, log = parent / "env", parent / "log"
    with log.open("w") as output, running_program(
            [sys.executable, "-m", "worker_init.cli", "serve", "--airflow", "--environment-file", str(file)],
            env={**os.environ, **NOWHERE, RUNTIME_DIR: str(parent)}, stderr=output) as host:
        wait_until(lambda: host.poll() is not None or str(file) in log.read_text(), "it says where the variables are")
        said = log.read_text()
        variables = dict(line.split("=", 1) for line in file.read_text().splitlines())
    assert f"serving bolt://127.0.0.1:1 at {variables['NEO4J_WORKER_URI']}\n" in said
    assert "serving each Neo4j connection of Airflow as soon as a task asks for it\n" in said
    assert f"the variables for the tasks are in {file}\n" in said
    assert variables["NEO4J_WORKER_PASSWORD"] not in said


def test_the_environment_file_of_another_host_is_left_alone(parent: Path) -> None:
    file = parent / "env"
    with running_program([sys.executable, "-m", "worker_init.cli", "serve", "--environment-file", str(file)],
                         env={**os.environ, **NOWHERE, RUNTIME_DIR: str(parent)}) as host:
        wait_until(file.exists, "it serves")
        (parent / "other").write_text("of another host")
        (parent / "other").replace(file)
        host.terminate()
        assert host.wait(60) == 0
    assert file.read_text() == "of another host"


def test_an_environment_file_that_cannot_be_written_is_said_in_a_line(parent: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "worker_init.cli", "serve", "--environment-file", "/nonexistent/env"],
                          env={**os.environ, **NOWHERE, RUNTIME_DIR: str(parent)}, capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 2
    assert "worker-driver: --environment-file /nonexistent/env cannot be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not [*parent.iterdir()]


def test_a_status_socket_can_be_made_again_in_the_same_folder(parent: Path) -> None:
    folder = make_folder(parent)
    with listen_for_status(folder), listen_for_status(folder) as second, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(folder / "control"))
        second.accept()[0].close()
