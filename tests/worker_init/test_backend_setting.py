"""An Airflow that is too old for the secrets backend is told so, and never gets it."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import worker_init
from worker_init.backend_setting import too_old
from worker_init.lifecycle import Worker


def install(folder: Path, version: str) -> None:
    """Have importlib.metadata find this version of Airflow in a folder."""
    (info := folder / "apache_airflow_core.dist-info").mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: apache-airflow-core\nVersion: {version}\n")


@pytest.fixture
def old(tmp_path: Path) -> str:
    """Install Airflow 3.1.8, as far as its metadata; the folder."""
    install(tmp_path, "3.1.8")
    return str(tmp_path)


@pytest.mark.parametrize(("version", "is_old"), [
    ("3.0.6", True), ("3.1.8", True), ("3.2.0", False), ("3.2.0rc1", False), ("3.10.0", False), ("4.0.0", False)])
def test_airflow_is_too_old_before_3_2(version: str, is_old: bool, tmp_path: Path,
                                       monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, version)
    monkeypatch.syspath_prepend(tmp_path)
    assert bool(too_old()) == is_old
    assert not is_old or "needs Airflow 3.2 or later" in too_old()


def test_without_airflow_there_is_nothing_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    assert too_old() == ""


@pytest.mark.host
def test_a_host_for_an_airflow_that_is_too_old_is_refused_in_one_line(old: str, tmp_path: Path) -> None:
    file = tmp_path / "environment"
    ended = subprocess.run(
        [sys.executable, "-m", "worker_init.cli", "serve", "--airflow", "--environment-file", str(file)],
        env={**os.environ, "PYTHONPATH": old, "WORKER_INIT_RUNTIME_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert "--airflow cannot be used" in line
    assert "3.1.8 is installed" in line
    assert not file.exists()


def test_a_worker_of_an_airflow_that_is_too_old_says_so(
        old: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.syspath_prepend(old)
    monkeypatch.setitem(sys.modules, "airflow.providers.celery", ModuleType("airflow.providers.celery"))
    # As where a part of airflow.sdk is missing that it imports.
    monkeypatch.setitem(sys.modules, "worker_init.airflow_connections", None)
    monkeypatch.delattr(worker_init, "airflow_connections", raising=False)
    worker = Worker()
    worker.open(1, {"WORKER_INIT_PRELOAD": "none"})
    with caplog.at_level(logging.WARNING):
        worker.announce()
    assert [line for line in caplog.messages if "Airflow 3.2 or later, and 3.1.8 is installed" in line]
