"""The doctor: whatever is wrong with the machine is named, with how to fix it, before anything is started."""

import os
import platform
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from pydantic import SecretStr
from rich.console import Console

from rig import doctor
from rig.doctor import GIB, Finding
from rig.errors import BadInput
from rig.settings import PROJECT, Settings
from rig.stack import neo4j_jars, ports, postgres
from rig.stack import state as states
from tests.rig.maven_mirror import small_server, unreachable
from tests.rig.plain_settings import PlainSettings
from tests.rig.test_drivers import stack


@pytest.fixture(autouse=True)
def healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make a machine of this one on which all is well; each test takes one thing away."""
    memory(monkeypatch, 16)
    monkeypatch.setattr(doctor, "CGROUP", tmp_path / "no-container")
    disk(monkeypatch, 100)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "a.py").touch()
    with small_server(tmp_path / "lock.toml", monkeypatch):
        neo4j_jars.ensure(tmp_path / "cache", lambda *_: None)
        yield


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return PlainSettings(data_dir=tmp_path / "not" / "made" / "yet", cache_dir=tmp_path / "cache",
                         airflow_proj_dir=tmp_path)


def memory(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=int(gib * GIB)))


def disk(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=int(gib * GIB)))


def container(monkeypatch: pytest.MonkeyPatch, folder: Path, limit: str, used: float) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{int(used * GIB)}\n")
    monkeypatch.setattr(doctor, "CGROUP", folder)


def changed(settings: Settings, **fields: object) -> Settings:
    return settings.model_copy(update=fields)


def wrong(settings: Settings) -> Finding:
    """Return the one thing that is wrong."""
    findings = [finding for finding in doctor.examine(settings) if finding.remedy]
    assert len(findings) == 1, findings
    assert "\n" not in f"{findings[0].found} {findings[0].remedy}"
    return findings[0]


def found(settings: Settings, what: str) -> Finding:
    """Return what was found where one looked."""
    return next(finding for finding in doctor.examine(settings) if finding.what == what)


def stops_the_start(settings: Settings, finding: Finding) -> None:
    """Check that nothing is started with what was found, and that the user is told the same."""
    with pytest.raises(BadInput) as caught:
        doctor.require_fit(settings)
    assert str(caught.value) == f"{finding.what}: {finding.found} — {finding.remedy}"
    assert caught.value.exit_code == 2


def test_on_a_healthy_machine_nothing_needs_a_remedy(settings: Settings) -> None:
    findings = doctor.examine(settings)
    assert [finding for finding in findings if finding.remedy] == []
    doctor.require_fit(settings)
    looked_at = {finding.what for finding in findings}
    assert {"Python", "memory", "disk", "DAGs", "user", "Neo4j", "downloads", "servers from wheels"} <= looked_at
    assert {f"port of {name}" for name in ("airflow", "flower", "postgres", "redis", "neo4j")} <= looked_at


def test_too_little_memory(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    memory(monkeypatch, 3.9)
    finding = wrong(settings)
    assert (finding.what, finding.found) == ("memory", "3.9 GiB free, 4 GiB needed")
    assert "RIG_SLOTS" in str(finding.remedy)
    stops_the_start(settings, finding)


def test_too_little_memory_in_a_container_on_a_large_machine(
        settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container(monkeypatch, tmp_path / "cgroup", str(6 * GIB), used=3)
    finding = wrong(settings)
    assert finding.found == "3.0 GiB free, 4 GiB needed"
    stops_the_start(settings, finding)


def test_a_container_without_a_limit_has_the_machines_memory(
        settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container(monkeypatch, tmp_path / "cgroup", "max", used=3)
    assert found(settings, "memory") == Finding("memory", "16.0 GiB free, 4 GiB needed")


def test_too_little_disk_for_what_is_temporary(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = Path(tempfile.gettempdir())
    monkeypatch.setattr(shutil, "disk_usage",
                        lambda path: SimpleNamespace(free=int((0.4 if path == temporary else 9) * GIB)))
    finding = wrong(settings)
    assert finding.found == f"0.4 GiB free in {temporary}, 0.5 GiB needed"
    assert "TMPDIR" in str(finding.remedy)


def test_too_little_disk(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk(monkeypatch, 0.5)
    finding = wrong(settings)
    assert (finding.what, finding.found) == ("disk", f"0.5 GiB free in {tmp_path}, 2.0 GiB needed")
    assert "RIG_DATA_DIR" in str(finding.remedy)
    stops_the_start(settings, finding)


@pytest.mark.parametrize("version", [(3, 10, 14), (3, 14, 0)])
def test_a_python_that_airflow_does_not_run_on(
        version: tuple[int, int, int], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(version_info=version))
    finding = wrong(settings)
    assert (finding.what, finding.found) == ("Python", f"{version[0]}.{version[1]}")
    assert "3.11, 3.12 or 3.13" in str(finding.remedy)
    stops_the_start(settings, finding)


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9), (3, 13, 1)])
def test_a_python_that_airflow_runs_on(
        version: tuple[int, int, int], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(version_info=version))
    assert found(settings, "Python") == Finding("Python", f"{version[0]}.{version[1]}")


def test_a_wheel_that_is_not_installed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.WHEELS, "no-such-wheel", "a server")
    finding = wrong(settings)
    assert finding.found == "not installed: no-such-wheel (a server)"
    assert "make .venv" in str(finding.remedy)
    stops_the_start(settings, finding)


def test_a_platform_without_wheels(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    finding = wrong(settings)
    assert "riscv64" in finding.found
    assert "x86-64 and ARM" in str(finding.remedy)
    stops_the_start(settings, finding)


@pytest.mark.parametrize("content", [None, "readme.txt"])
def test_a_folder_without_dags(content: str | None, settings: Settings, tmp_path: Path) -> None:
    project = tmp_path / "project"
    if content:
        (project / "dags").mkdir(parents=True)
        (project / "dags" / content).touch()
    there = changed(settings, airflow_proj_dir=project)
    finding = wrong(there)
    assert (finding.what, finding.found) == ("DAGs", str(project / "dags"))
    assert "AIRFLOW_PROJ_DIR" in str(finding.remedy)
    stops_the_start(there, finding)


def test_root_without_a_user_for_postgres(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres, "UNPRIVILEGED", "no-such-user")
    finding = wrong(settings)
    assert "no-such-user" in finding.found
    assert finding.remedy == "run the rig as an ordinary user"
    stops_the_start(settings, finding)


@pytest.mark.parametrize("service", ["airflow", "flower", "postgres", "redis", "neo4j"])
def test_a_port_in_use(service: str, settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        finding = wrong(changed(settings, **{f"{service}_port": port}))
    assert finding.what == f"port of {service}"
    assert f"port {port} on 127.0.0.1 cannot be opened" in finding.found
    assert f"RIG_{service.upper()}_PORT" in str(finding.remedy)


def test_the_ports_of_the_stack_that_is_up_here_are_no_fault(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        port = ours.getsockname()[1]
        settings.stack_dir.mkdir(parents=True)
        states.save(settings.stack_dir, stack(settings.data_dir, ports={"flower": port}))
        findings = doctor.examine(changed(settings, flower_port=port))
    assert [finding for finding in findings if finding.remedy] == []


def test_a_neo4j_that_cannot_be_reached(settings: Settings) -> None:
    uri = f"bolt://127.0.0.1:{ports.choose(0, variable='a test')}"
    finding = wrong(changed(settings, neo4j_uri=uri, neo4j_password=SecretStr("correct-horse")))
    assert finding.what == "Neo4j"
    assert f"{uri} cannot be reached" in finding.found
    assert "NEO4J_URI" in str(finding.remedy)
    assert "correct-horse" not in f"{finding}"


def test_downloads_that_are_still_to_come_say_how_many_and_from_where(settings: Settings, tmp_path: Path) -> None:
    empty = changed(settings, cache_dir=tmp_path / "empty")
    assert [finding.found for finding in doctor.examine(empty) if finding.what == "downloads"] == [
        "2 jars of Neo4j are to be downloaded from 127.0.0.1"]
    assert not [finding for finding in doctor.examine(empty) if finding.remedy]


def test_downloads_without_network(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in unreachable().items():
        monkeypatch.setenv(name, value)
    assert not [finding for finding in doctor.examine(settings) if finding.remedy], "all is there"
    finding = wrong(changed(settings, cache_dir=tmp_path / "empty"))
    assert finding.what == "downloads"
    assert "2 jars of Neo4j are to be downloaded from 127.0.0.1, which cannot be reached: " in finding.found
    assert "HTTPS_PROXY" in str(finding.remedy)


def test_a_server_of_the_users_own_needs_no_downloads(settings: Settings, tmp_path: Path) -> None:
    own = changed(settings, cache_dir=tmp_path / "empty", neo4j_uri="bolt://127.0.0.1:1",
                  neo4j_password=SecretStr("correct-horse"))
    assert [finding.found for finding in doctor.examine(own) if finding.what == "downloads"] == ["all there"]


def test_a_person_sees_every_finding_as_it_is() -> None:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(doctor.table([Finding("disk", "0.5 GiB free in /mnt/[old]/[/x]", "make room in [here]"),
                                    Finding("Python", "3.11")]))
    lines = captured.get().splitlines()
    disk_line = next(line for line in lines if "disk" in line)
    assert "✗" in disk_line
    assert "/mnt/[old]/[/x]" in disk_line
    assert "make room in [here]" in disk_line
    assert "✓" in next(line for line in lines if "Python" in line)


def test_the_command_line_exits_with_1_when_something_is_wrong(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run([Path(sys.executable).with_name("rig"), "doctor"], capture_output=True, text=True,
                              check=False, env={**os.environ, **unreachable(), "RIG_DATA_DIR": str(tmp_path),
                                                "RIG_REDIS_PORT": port, "COLUMNS": "400"}, cwd=PROJECT)
    assert done.returncode == 1
    assert "RIG_REDIS_PORT" in done.stdout
    assert "Traceback" not in done.stderr


def test_too_few_open_files_for_the_slots_are_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    many = settings.model_copy(update={"slots": 300})
    (finding,) = [one for one in doctor.examine(many) if one.what == "open files"]
    assert finding == Finding("open files", "1024 allowed, 2200 needed with 300 slots",
                              "`ulimit -n 2200`, or use fewer slots (RIG_SLOTS)")
    with pytest.raises(BadInput, match="open files: 1024 allowed, 2200 needed with 300 slots"):
        doctor.require_fit(many)
    assert all(one.remedy is None for one in doctor.examine(settings) if one.what == "open files")
