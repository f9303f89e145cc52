"""``rig load``: Locust's command and environment, and what it makes of Locust's last words."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest import target
from rig.errors import BadInput
from rig.load import run
from rig.load.run import Wish
from rig.records import RELAYS, Relay
from rig.stack.native import NativeStack
from tests.rig.plain_settings import PlainSettings
from tests.rig.test_drivers import stack


def wish(**changes: Any) -> Wish:
    known: dict[str, Any] = {"executor": None, "relay": None, "slots": 4, "headless": True, "port": 8089,
                             "unpause": False, "arguments": ("--tasks=3",), "command": "rig load"}
    return Wish(**known | changes)


def test_no_secret_is_on_locusts_command_line_and_each_is_in_its_environment(tmp_path: Path) -> None:
    settings = PlainSettings(data_dir=tmp_path)
    state = stack(tmp_path, ports={"airflow": 1, "flower": 2})
    line = " ".join(run.command(settings, wish()))
    environment = run._environment(settings, state)
    secrets = state.secrets.model_dump(mode="json")
    assert not any(secret in line for secret in secrets.values())
    assert environment["LOADTEST_AIRFLOW_PASSWORD"] == secrets["airflow"]
    assert environment["LOADTEST_FLOWER_PASSWORD"] == secrets["flower"]
    assert environment["NEO4J_PASSWORD"] == secrets["neo4j"]


def test_without_celery_there_is_no_flower(tmp_path: Path) -> None:
    environment = run._environment(PlainSettings(data_dir=tmp_path), stack(
        tmp_path, ports={"airflow": 1}, executor="LocalExecutor"))
    assert "LOADTEST_FLOWER_URL" not in environment


@pytest.mark.parametrize("relay", RELAYS)
def test_locust_knows_through_which_driver_the_tasks_reach_neo4j(relay: Relay, tmp_path: Path) -> None:
    state = stack(tmp_path, ports={"airflow": 1, "flower": 2}, relay=relay)
    assert target.of(run._environment(PlainSettings(data_dir=tmp_path), state)).relay == relay


def test_neither_a_variable_nor_a_file_of_locusts_own_changes_the_test(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".locust.conf").write_text("run-time = 5s\nusers = 7\n")
    for name, value in {"HOME": str(tmp_path), "LOCUST_RUN_TIME": "1s", "http_proxy": "http://192.0.2.1:1"}.items():
        monkeypatch.setenv(name, value)
    settings, state = PlainSettings(data_dir=tmp_path / "data"), stack(tmp_path, ports={"airflow": 1, "flower": 2})
    environment = run._environment(settings, state)
    assert not {"LOCUST_RUN_TIME", "http_proxy"} & set(environment)
    assert not (Path(environment["HOME"]) / ".locust.conf").exists()
    assert environment["HOME"] == str(settings.stack_dir)


@pytest.mark.parametrize(("headless", "there", "missing"), [
    (True, "--headless", "--web-port"), (False, "--web-host 127.0.0.1 --web-port 8089", "--headless")])
def test_the_page_is_on_loopback_or_not_there(headless: bool, there: str, missing: str, tmp_path: Path) -> None:
    line = " ".join(run.command(PlainSettings(data_dir=tmp_path), wish(headless=headless)))
    assert there in line
    assert missing not in line
    assert line.endswith("--tasks=3")


def test_a_page_on_a_port_that_a_service_will_have_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    settings = PlainSettings(data_dir=tmp_path, flower_port=8089)
    with pytest.raises(BadInput, match=r"^RIG_FLOWER_PORT and --port are the same: expected a port for each"):
        run.run(settings, NativeStack(settings), wish(headless=False), SimpleNamespace())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("headless", "said"), [
    (False, r"^port \d+ on 127\.0\.0\.1 cannot be opened: another program is using it — choose another --port"),
    (True, "^--tasks is 0")])
def test_a_port_in_use_is_refused_where_there_is_a_page_for_it(headless: bool, said: str, tmp_path: Path) -> None:
    settings = PlainSettings(data_dir=tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = wish(headless=headless, port=taken.getsockname()[1], arguments=("--tasks=0",))
        with pytest.raises(BadInput, match=said):
            run.run(settings, NativeStack(settings), wanted, SimpleNamespace())


def test_a_port_that_a_service_will_have_is_no_concern_of_a_test_without_a_page(tmp_path: Path) -> None:
    settings = PlainSettings(data_dir=tmp_path, flower_port=8089)
    with pytest.raises(BadInput, match=r"^--tasks is 0"):
        run.run(settings, NativeStack(settings), wish(arguments=("--tasks=0",)), SimpleNamespace())


@pytest.mark.parametrize(("argument", "said"), [
    ("--arrivals=sometimes", "argument --arrivals: invalid choice: 'sometimes'"), ("--tasks=0", "--tasks is 0"),
    ("--arrival-rate=0", "--rate is 0"), ("--duration=-1", "--time is -1"),
    ("--hold=x", "argument --hold: invalid float value: 'x'")])
def test_a_test_that_cannot_be_is_refused_before_a_stack_is_started_for_it(
        argument: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCUST_USERS", "none")      # none of Locust's own variables counts
    settings = PlainSettings(data_dir=tmp_path)
    with pytest.raises(BadInput) as refused:
        run.run(settings, NativeStack(settings), wish(port=0, arguments=(argument,)), SimpleNamespace())
    assert str(refused.value).startswith(said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("log", "said"), [
    ("[2026-01-01 00:00:00,000] vm/ERROR/locustfile: the DAG is paused — unpause it\n[…] vm/INFO/locust.main: bye\n",
     "the DAG is paused — unpause it"),
    ("usage: locust\n\nlocust: error: argument --tasks: invalid int value: 'x'\n",
     "argument --tasks: invalid int value: 'x'"),
    ("", "Locust ended without a message")])
def test_what_locust_said_last_is_told(log: str, said: str) -> None:
    assert run._last_words(log) == said
