"""What the native stack says of a service that has ended, and of one that somebody has stopped; its ports."""

import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from rig.errors import BadInput, ServiceDied
from rig.stack import asking, ports, processes
from rig.stack import state as states
from rig.stack.native import NativeStack
from rig.stack.service import Service
from rig.stack.state import ServiceState, StackState
from testing.waiting import eventually
from tests.rig.plain_settings import PlainSettings
from tests.rig.test_drivers import stack


@pytest.fixture
def native(tmp_path: Path) -> Iterator[NativeStack]:
    """Give a stack of two services, each a program that only waits."""
    made = NativeStack(PlainSettings(data_dir=tmp_path))
    (made.folder / "logs").mkdir(parents=True)
    services = {}
    for name in ("redis", "airflow-scheduler"):
        log = made.folder / "logs" / f"{name}.log"
        log.write_text("INFO starting\nERROR no memory\nINFO going on\n", encoding="utf-8")
        started = processes.start(["sleep", "600"], env=dict(os.environ), log=log, cwd=tmp_path)
        services[name] = ServiceState(process=started, url=None, stop_signal=signal.SIGTERM, stop_timeout=30)
    states.save(made.folder, stack(tmp_path, services=services))
    yield made
    for service in services.values():
        processes.stop(service.process, timeout=30)


def without_services(folder: Path) -> NativeStack:
    made = NativeStack(PlainSettings(data_dir=folder))
    made.folder.mkdir(parents=True)
    ports_of = dict.fromkeys(("airflow", "flower", "postgres", "redis", "neo4j"), 1)
    states.save(made.folder, stack(folder, ports=ports_of, own_neo4j=False))
    return made


def end(native: NativeStack, name: str) -> None:
    processes.kill([psutil.Process(native.state().services[name].process.pid)])


def test_a_port_in_use_is_said_before_anything_is_downloaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = NativeStack(PlainSettings(data_dir=tmp_path, airflow_port=other.getsockname()[1]))
        with pytest.raises(BadInput, match="RIG_AIRFLOW_PORT"):
            taken.up("LocalExecutor", slots=1)
    assert not list(tmp_path.rglob("*"))


def test_one_line_names_what_ended_and_its_log_and_then_come_the_lines_that_say_why(native: NativeStack) -> None:
    native.require_running()
    end(native, "redis")
    with pytest.raises(ServiceDied) as caught:
        native.require_alive()
    log = native.folder / "logs" / "redis.log"
    assert str(caught.value).splitlines() == [
        f"redis has ended by itself; its log: {log} — `rig down`, then start again", "ERROR no memory"]


def test_the_first_of_several_is_the_one_that_is_told_of(native: NativeStack) -> None:
    end(native, "redis")
    end(native, "airflow-scheduler")
    with pytest.raises(ServiceDied, match=r"^redis has ended by itself \(so have airflow-scheduler\); its log: "):
        native.require_alive()


def test_one_that_is_stopped_keeps_a_command_from_beginning_and_is_ended_all_the_same(native: NativeStack) -> None:
    redis = native.state().services["redis"].process
    pid = redis.pid
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: processes.is_stopped(redis))
    native.require_alive()
    with pytest.raises(ServiceDied, match=rf"^redis does not serve: it is stopped; `kill -CONT {pid}` lets it go on"):
        native.require_running()
    assert processes.stop(redis, timeout=30), "it had to be killed"


def test_a_full_disk_does_not_keep_it_from_being_taken_down(
        native: NativeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    running = [service.process for service in native.state().services.values()]

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(states, "save", refuse)
    native.down()
    assert [processes.find(process) for process in running] == [None, None]


def test_a_free_port_is_none_that_the_user_has_set_for_another_service(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[set[int]] = []

    def choose(wanted: int, **named: Any) -> int:
        given.append(named["given"])
        return wanted or 20_000 + len(given)
    monkeypatch.setattr(ports, "choose", choose)
    NativeStack(PlainSettings(data_dir=tmp_path, neo4j_port=25_000))._ports()
    assert all(25_000 in others for others in given)


@pytest.mark.parametrize(("modules", "inherited", "words"), [
    ("./etl.py", None, "nothing would be preloaded: WORKER_INIT_PRELOAD='./etl.py' cannot be used"),
    ("pandas", "AIRFLOW__CORE__PLUGINS_FOLDER", "AIRFLOW__CORE__PLUGINS_FOLDER is in RIG_INHERIT")])
def test_a_stack_that_could_not_preload_is_not_started(
        modules: str, inherited: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_INIT_PRELOAD", modules)
    monkeypatch.setenv("AIRFLOW__CORE__PLUGINS_FOLDER", "/plugins")
    with pytest.raises(BadInput, match=words):
        NativeStack(PlainSettings(data_dir=tmp_path, inherit=inherited)).up("LocalExecutor", slots=1)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("change", [
    lambda native: native.switch("LocalExecutor", preload=True), lambda native: native.restart(["airflow-scheduler"])])
def test_nothing_is_stopped_for_a_change_after_which_nothing_would_be_preloaded(
        change: Callable[[NativeStack], object], native: NativeStack, monkeypatch: pytest.MonkeyPatch) -> None:
    states.save(native.folder, native.state().model_copy(update={"preload": True}))
    monkeypatch.setenv("WORKER_INIT_PRELOAD", "none")
    with pytest.raises(BadInput, match="WORKER_INIT_PRELOAD=none leaves nothing to preload — unset it"):
        change(native)
    native.require_running()


def test_what_a_switch_has_preloaded_is_preloaded_after_a_restart_too(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: dict[str, Service] = {}

    def start(_: NativeStack, services: Sequence[Service], __: StackState) -> None:
        started.update({service.name: service for service in services})
    monkeypatch.setattr(NativeStack, "_start", start)
    native = without_services(tmp_path)

    def imports() -> str | None:
        return started["airflow-worker"].env.get("AIRFLOW__CELERY__EXTRA_CELERY_CONFIG")
    native.switch("CeleryExecutor", preload=True)
    assert imports() == '{"imports": ["worker_init.preload_hooks"]}'
    started.clear()
    native.restart(["airflow-worker"])
    assert imports() == '{"imports": ["worker_init.preload_hooks"]}'
    native.switch("CeleryExecutor")
    assert imports() is None
    native.switch("LocalExecutor", preload=True)
    plugins = Path(started["airflow-scheduler"].env["AIRFLOW__CORE__PLUGINS_FOLDER"])
    assert "PreloadPlugin" in (plugins / "preload.py").read_text("utf-8")


def test_the_state_of_an_earlier_rig_is_one_line_and_down_ends_what_it_started(tmp_path: Path) -> None:
    native = without_services(tmp_path)
    file = native.folder / states.STATE_FILE
    started = processes.start(["sleep", "600"], env={**os.environ, processes.MARK: str(native.folder)},
                              log=tmp_path / "log", cwd=tmp_path)
    redis = ServiceState(process=started, url=None, stop_signal=signal.SIGTERM, stop_timeout=30)
    states.save(native.folder, stack(tmp_path, services={"redis": redis}))
    file.write_text(file.read_text("utf-8").replace('"since_boot"', '"create_time"'), encoding="utf-8")
    try:
        with pytest.raises(BadInput, match="is not the state of a stack — `rig down` clears what it left"):
            native.status()
        native.down()
        assert (processes.find(started), native.is_there()) == (None, False)
    finally:
        processes.stop(started, timeout=30)


def test_services_are_asked_for_as_long_as_the_command_says(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native, asked = without_services(tmp_path), list[float]()

    def problems(*_: object, within: float, **__: object) -> dict[str, str | None]:
        asked.append(within)
        return {}
    monkeypatch.setattr(asking, "problems", problems)
    native.status(within=4.5)
    native.status()
    assert asked == [4.5, asking.WITHIN]
