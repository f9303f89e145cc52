"""Airflow's database: a real Postgres, run as root and as an ordinary user, on loopback alone."""

import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg2
import pytest

from rig.errors import RigError
from rig.stack import postgres, processes, state
from rig.stack.ports import choose
from rig.stack.processes import MARK, Started
from rig.stack.service import Service
from testing.services import running_service
from tests.patterns.task_process import forked
from tests.rig import kernel_sockets
from tests.server_marks import starts

PASSWORD = "correct-horse-battery"
AS_ROOT = os.geteuid() == 0


class Running(NamedTuple):
    """A Postgres that serves."""

    service: Service
    process: Started
    moved_to: Path | None
    port: int

    def connect(self, password: str = PASSWORD, database: str = postgres.DATABASE) -> "psycopg2.extensions.connection":
        """Return a connection."""
        return psycopg2.connect(host="127.0.0.1", port=self.port, user=postgres.USER, password=password,
                                dbname=database)


@contextmanager
def postgres_in(folder: Path) -> Iterator[Running]:
    """Make a cluster and serve it until the block ends."""
    outside = state.temporary_folder()
    port, moved = choose(0, variable="a test"), postgres.prepare(folder / "postgres", outside, PASSWORD)
    try:
        service = postgres.service(folder / "postgres", moved, port, PASSWORD, {**os.environ, MARK: str(folder)})
        with running_service(service, folder / "postgres.log") as process:
            yield Running(service, process, moved, port)
    finally:
        if moved:
            shutil.rmtree(moved)


@pytest.fixture(scope="module")
@starts("postgres")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with postgres_in(tmp_path_factory.mktemp("postgres")) as server:
        yield server


def test_it_does_not_serve_before_it_is_started(tmp_path: Path) -> None:
    service = postgres.service(tmp_path, None, choose(0, variable="a test"), PASSWORD, {})
    reason = service.check()
    assert reason
    assert "refused" in reason


def test_it_serves_airflows_database_once_its_check_says_so(running: Running) -> None:
    assert running.service.check() is None
    with running.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE seen (what text); INSERT INTO seen VALUES ('é 🍌'); SELECT what FROM seen")
        assert cursor.fetchall() == [("é 🍌",)]
    connection.close()


def test_its_address_is_the_one_that_airflow_is_given(running: Running) -> None:
    address = postgres.url(running.port, PASSWORD, "postgresql")
    connection = psycopg2.connect(address)
    assert connection.info.dbname == "airflow"
    connection.close()


def test_asking_again_whether_it_serves_changes_nothing(running: Running) -> None:
    assert [running.service.check() for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("password", ["", "wrong"])
def test_it_refuses_without_the_password(password: str, running: Running) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password"):
        running.connect(password)


def test_the_check_needs_the_right_password(running: Running, tmp_path: Path) -> None:
    other = postgres.service(tmp_path, None, running.port, "another", {})
    reason = other.check()
    assert reason
    assert "password authentication failed" in reason


def test_one_that_is_stopped_is_not_waited_for_for_ever(running: Running) -> None:
    process = psutil.Process(running.process.pid)
    process.suspend()
    try:
        assert "timeout" in (running.service.check() or "")
    finally:
        process.resume()


def test_it_listens_on_loopback_alone(running: Running) -> None:
    assert kernel_sockets.listening(running.process) == {("127.0.0.1", running.port)}


def content_of(path: Path) -> bytes:
    """Return what is in a file; nothing if the server has removed it since it was found."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def test_its_password_is_in_no_argument_and_in_no_file(running: Running) -> None:
    assert PASSWORD not in kernel_sockets.arguments(running.process)
    assert PASSWORD not in f"{running.service!r}{running.service.url}"
    folder = running.moved_to or running.service.cwd
    small = [path for path in folder.rglob("*") if path.is_file() and "pginstall" not in path.parts]
    assert small
    assert not [path for path in small if PASSWORD.encode() in content_of(path)]
    assert not list(folder.parent.glob("initdb-password"))


@pytest.mark.postgres
def test_it_is_found_by_the_mark_of_its_stack_and_takes_its_children_with_it(tmp_path: Path) -> None:
    with postgres_in(tmp_path) as server:
        leader = psutil.Process(server.process.pid)
        children = leader.children(recursive=True)
        # A child has the mark too until its title has taken the place of it.
        assert leader.pid in {process.pid for process in processes.marked(str(tmp_path))}
        processes.kill([leader])
        assert not psutil.wait_procs(children, timeout=30)[1]


@pytest.mark.postgres
def test_a_client_that_stays_connected_does_not_hold_up_its_end(tmp_path: Path) -> None:
    with postgres_in(tmp_path) as server:
        connection = server.connect()
        process = psutil.Process(server.process.pid)
        process.send_signal(server.service.stop_signal)
        assert not psutil.wait_procs([process], timeout=server.service.stop_timeout)[1]
        connection.close()


@pytest.mark.postgres
def test_neither_a_private_umask_nor_the_variables_of_another_postgres_have_an_effect(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGSSLMODE": "require", "PGHOSTADDR": "192.0.2.1", "PGTARGETSESSIONATTRS": "read-only",
                        "PGSERVICE": "none-such", "PGTZ": "Nowhere", "PGDATA": "/elsewhere"}.items():
        monkeypatch.setenv(name, value)
    before = os.umask(0o077)
    try:
        with postgres_in(tmp_path) as server:
            assert server.service.check() is None
    finally:
        os.umask(before)


@pytest.mark.skipif(not AS_ROOT, reason="this is not root")
def test_as_root_it_runs_as_a_user_who_is_not(running: Running) -> None:
    process = psutil.Process(running.process.pid)
    assert process.username() == postgres.UNPRIVILEGED
    assert running.moved_to, "that user may not be able to look into the stack's folder"
    # Its children come and go: only process_iter takes that as it is.
    users = {each.info["username"] for each in psutil.process_iter(["ppid", "username"])
             if each.info["ppid"] == process.pid}
    assert users == {postgres.UNPRIVILEGED}
    assert postgres.can_step_down() is None


@pytest.mark.skipif(not AS_ROOT, reason="only root has to step down")
def test_without_a_user_to_step_down_to_the_reason_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "UNPRIVILEGED", "no-such-user")
    assert postgres.can_step_down() == "root, and there is no user 'no-such-user' for Postgres to run as"


@pytest.mark.postgres
def test_an_ordinary_user_runs_it_in_the_folder_of_the_stack() -> None:
    if not AS_ROOT:
        with tempfile.TemporaryDirectory() as folder, postgres_in(Path(folder)) as server:
            assert server.moved_to is None
        return
    nobody = pwd.getpwnam(postgres.UNPRIVILEGED)
    with tempfile.TemporaryDirectory() as folder:
        shutil.chown(folder, nobody.pw_uid, nobody.pw_gid)
        with forked(lambda: _as_user(nobody.pw_uid, nobody.pw_gid, Path(folder))) as child:
            assert child.result == {"uid": nobody.pw_uid, "moved": False, "served": "16"}


def _as_user(uid: int, gid: int, folder: Path) -> dict[str, object]:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.environ["HOME"] = str(folder)
    with postgres_in(folder) as server:
        connection = server.connect()
        version = str(connection.info.server_version // 10_000)
        connection.close()
        return {"uid": os.geteuid(), "moved": server.moved_to is not None, "served": version}


@pytest.fixture
def broken_initdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the wheel an initdb that fails; return a folder for a cluster that may not be in the stack's."""
    initdb = tmp_path / "pginstall" / "bin" / "initdb"
    initdb.parent.mkdir(parents=True)
    initdb.write_text("#!/bin/sh\necho 'no space left on device' >&2\nexit 1\n")
    initdb.chmod(0o755)
    monkeypatch.setattr(postgres, "INSTALLATION", tmp_path / "pginstall")
    monkeypatch.setattr(postgres, "SHARED_LIBRARIES", tmp_path / "none")
    outside = state.temporary_folder()
    yield outside
    shutil.rmtree(outside, ignore_errors=True)


def test_a_cluster_that_cannot_be_made_says_why_and_leaves_no_password(broken_initdb: Path, tmp_path: Path) -> None:
    with pytest.raises(RigError, match=r"initdb failed: no space left on device — `rig doctor`"):
        postgres.prepare(tmp_path / "postgres", broken_initdb, PASSWORD)
    assert not [*broken_initdb.rglob("initdb-password"), *tmp_path.rglob("initdb-password")]
