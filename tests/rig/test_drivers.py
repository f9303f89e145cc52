"""How the shared driver joins the stack's services, without starting any of them."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from patterns.facts import Executor
from rig.environment import users_settings
from rig.errors import BadInput, RelayMissing
from rig.records import Relay, relay_on
from rig.stack import drivers, processes, state
from rig.stack.processes import MARK
from rig.stack.state import StackState
from testing.services import running_service
from worker_init.backend_setting import FOLDER
from worker_init.control import has_status
from worker_init.targets import parse_connection, upstreams_of


def stack(folder: Path, **changes: Any) -> StackState:
    given = {"executor": "CeleryExecutor", "slots": 16, "ports": {}, "neo4j_uri": "bolt://127.0.0.1:17687",
             "neo4j_username": "neo4j", "neo4j_database": "sales", "own_neo4j": True, "temporary": folder,
             "secrets": state.random_secrets(airflow=None, neo4j=None), **changes}
    return StackState.model_validate(given)


@pytest.mark.parametrize(("executor", "asked", "given"), [
    ("CeleryExecutor", "process", "process"), ("CeleryExecutor", "shared", "shared"),
    ("CeleryExecutor", "none", "none"), ("LocalExecutor", "process", "shared"),
    ("LocalExecutor", "shared", "shared"), ("LocalExecutor", "none", "none")])
def test_local_executor_has_one_driver_for_all_where_celery_has_one_for_each_process(
        executor: Executor, asked: Relay, given: Relay) -> None:
    assert relay_on(executor, asked) == given


@pytest.mark.parametrize("uri", [
    "bolt://127.0.0.1:17687", "neo4j://graph.example:7688", "bolt+s://graph.example:7687", "neo4j+s://a.example:7687",
    "neo4j+ssc://a.example:7687", "bolt+ssc://a.example:7687", "bolt://[::1]:7687", "neo4j+s://[2001:db8::1]:7688"])
def test_airflows_connection_leads_to_the_same_server_as_neo4j_uri(uri: str, tmp_path: Path) -> None:
    made = stack(tmp_path, neo4j_uri=uri)
    parsed = parse_connection(drivers.connection(made))
    assert parsed.target.uri == uri
    assert (parsed.login, parsed.password) == ("neo4j", made.secrets.neo4j.get_secret_value())
    assert parsed.schema == "sales"


def test_an_address_without_a_port_has_neo4js_own(tmp_path: Path) -> None:
    assert json.loads(drivers.connection(stack(tmp_path, neo4j_uri="neo4j+s://a.example")))["port"] == 7687


def test_a_worker_loads_the_hooks_by_one_setting(tmp_path: Path) -> None:
    env = drivers.of_worker(stack(tmp_path, relay="shared"))
    assert json.loads(env["AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"]) == {"imports": ["worker_init.hooks"]}
    assert env["WORKER_INIT_SCOPE"] == "shared"
    assert env["WORKER_INIT_RUNTIME_DIR"] == str(tmp_path / "drivers")
    assert env["WORKER_INIT_PRELOAD"] == "none", "preloading would be credited to the relay"


def test_the_users_settings_of_the_drivers_reach_the_worker_but_not_those_that_the_rig_decides_on(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_INIT_MAX_SIZE", "2")
    monkeypatch.setenv("WORKER_INIT_SCOPE", "process")
    monkeypatch.setenv("WORKER_INIT_PRELOAD", "pandas")
    env = drivers.of_worker(stack(tmp_path, relay="shared"))
    assert (env["WORKER_INIT_MAX_SIZE"], env["WORKER_INIT_SCOPE"]) == ("2", "shared")
    assert env["WORKER_INIT_PRELOAD"] == "none"
    assert users_settings(os.environ)["WORKER_INIT_MAX_SIZE"] == "2"


def test_without_a_relay_a_worker_is_as_airflow_makes_it(tmp_path: Path) -> None:
    assert drivers.of_worker(stack(tmp_path)) == {}


@pytest.mark.parametrize(("relay", "module"), [("none", "worker_init.preload_hooks"), ("process", "worker_init.hooks")])
@pytest.mark.parametrize("modules", [None, "pandas"])
def test_a_worker_preloads_with_a_relay_as_without(relay: Relay, module: str, modules: str | None, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    if modules:
        monkeypatch.setenv("WORKER_INIT_PRELOAD", modules)
    env = drivers.of_worker(stack(tmp_path, relay=relay, preload=True))
    assert json.loads(env["AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"]) == {"imports": [module]}
    assert env["WORKER_INIT_PRELOAD"] == (modules or "")
    assert drivers.of_preloading_scheduler(stack(tmp_path, relay=relay, preload=True)) == {}


def test_on_local_executor_the_scheduler_preloads_by_a_plugin_that_no_other_process_is_given(tmp_path: Path) -> None:
    made = stack(tmp_path, executor="LocalExecutor", preload=True)
    drivers.write_plugin(made)
    env = drivers.of_preloading_scheduler(made)
    assert env == {"AIRFLOW__CORE__PLUGINS_FOLDER": str(made.plugins_dir), "WORKER_INIT_PRELOAD": ""}
    found = in_a_scheduler(tmp_path, env)
    assert found == [True, True]


@pytest.mark.parametrize("changes", [{"executor": "LocalExecutor"}, {"preload": True}])
def test_where_no_scheduler_preloads_there_is_no_plugin(changes: dict[str, Any], tmp_path: Path) -> None:
    made = stack(tmp_path, **changes)
    drivers.write_plugin(made)
    assert not made.plugins_dir.exists()
    assert drivers.of_preloading_scheduler(made) == {}


def in_a_scheduler(folder: Path, env: dict[str, str]) -> list[bool]:
    """Return whether a process that is Airflow's scheduler to Airflow has the driver and the DAG files' parser."""
    script = ("import json, sys; sys.argv[1:] = ['scheduler']; from airflow.jobs.job import Job; Job(); "
              "print(json.dumps([name in sys.modules for name in ('neo4j', 'airflow.dag_processing.dagbag')]))")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=240,
                          env={**os.environ, "AIRFLOW_HOME": str(folder), **env})
    found: list[bool] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize(("modules", "environment", "words"), [
    ("none", {}, "WORKER_INIT_PRELOAD=none leaves nothing to preload — unset it"),
    ("./etl.py", {}, "nothing would be preloaded: WORKER_INIT_PRELOAD='./etl.py' cannot be used"),
    ("", {"AIRFLOW__CORE__PLUGINS_FOLDER": "/plugins"}, "AIRFLOW__CORE__PLUGINS_FOLDER is in RIG_INHERIT")])
def test_where_nothing_could_be_preloaded_it_is_said_with_what_to_change(
        modules: str, environment: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_INIT_PRELOAD", modules)
    with pytest.raises(BadInput, match=words):
        drivers.require_preload("LocalExecutor", environment)
    monkeypatch.setenv("WORKER_INIT_PRELOAD", "pandas")
    drivers.require_preload("LocalExecutor", {})


def test_a_celery_worker_preloads_beside_any_folder_of_plugins() -> None:
    drivers.require_preload("CeleryExecutor", {"AIRFLOW__CORE__PLUGINS_FOLDER": "/plugins"})


@pytest.mark.parametrize(("modules", "expected"), [
    (None, False), ("none", False), ("", False), (" ", False), ("pandas", True), ("./etl.py", True)])
def test_a_stack_that_is_brought_up_preloads_where_the_user_has_said_what(
        modules: str | None, expected: bool) -> None:
    assert drivers.is_preload_set({} if modules is None else {"WORKER_INIT_PRELOAD": modules}) is expected


def test_the_exhibit_is_loaded_only_where_it_is_asked_for(tmp_path: Path) -> None:
    env = drivers.of_worker(stack(tmp_path, exhibit=True))
    assert json.loads(env["AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"]) == {"imports": ["patterns.inherited_hooks"]}


def test_the_scheduler_is_told_what_the_host_has_written_and_forgets_an_earlier_one(tmp_path: Path) -> None:
    made = stack(tmp_path, executor="LocalExecutor", relay="shared")
    made.drivers_dir.mkdir()
    file = made.drivers_dir / "environment"
    file.write_text("NEO4J_WORKER_URI=bolt://127.0.0.1:9\nAIRFLOW_CONN_NEO4J_DEFAULT='{\"host\": \"a b\"}'\n")
    assert drivers.of_scheduler(made) == {"NEO4J_WORKER_URI": "bolt://127.0.0.1:9",
                                          "AIRFLOW_CONN_NEO4J_DEFAULT": '{"host": "a b"}'}
    drivers.prepare_host(made)
    assert drivers.of_scheduler(made) == {}
    assert drivers.host({}, made).check() == "it has not sent its address yet"


def test_a_host_that_is_started_again_has_the_same_address(tmp_path: Path) -> None:
    made = stack(tmp_path, executor="LocalExecutor", relay="shared", ports={"redis": 20_001})
    drivers.prepare_host(made)
    state.save(tmp_path, made)
    loaded = state.load(tmp_path)
    assert loaded
    first, again = drivers.host({}, made), drivers.host({}, loaded)
    assert first.command == again.command
    assert first.env == again.env
    assert again.command[again.command.index("--port") + 1] == str(made.ports["worker-driver"])
    password = made.secrets.driver_host.get_secret_value()
    assert again.env["NEO4J_WORKER_PASSWORD"] == password
    assert password not in " ".join(map(str, again.command))


@pytest.mark.host
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_what_the_scheduler_knows_is_true_of_a_host_that_is_started_again(sign: signal.Signals, tmp_path: Path) -> None:
    with TemporaryDirectory() as short:
        made = stack(Path(short), executor="LocalExecutor", relay="shared", neo4j_uri="bolt://127.0.0.1:1")
        made.drivers_dir.mkdir(mode=0o700)
        env = {**os.environ, MARK: str(tmp_path), "NEO4J_URI": made.neo4j_uri, "NEO4J_USERNAME": "neo4j",
               "NEO4J_PASSWORD": made.secrets.neo4j.get_secret_value(), drivers.CONNECTION: drivers.connection(made)}
        drivers.prepare_host(made)
        with running_service(drivers.host(env, made), tmp_path / "log") as host:
            known = drivers.of_scheduler(made)
            processes.stop(host, timeout=60, sign=sign)
        with running_service(drivers.host(env, made), tmp_path / "log"):
            assert drivers.of_scheduler(made) == known
            assert has_status(Path(known[FOLDER]))
            with socket.create_connection(("127.0.0.1", made.ports[drivers.HOST])):
                assert known["NEO4J_WORKER_URI"] == f"bolt://127.0.0.1:{made.ports[drivers.HOST]}"


def test_there_are_as_many_ports_for_a_host_as_it_may_have_upstreams(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = stack(tmp_path, executor="LocalExecutor", relay="shared", neo4j_uri="bolt://graph.example")
    named = upstreams_of({"NEO4J_URI": made.neo4j_uri, drivers.CONNECTION: drivers.connection(made)},
                         ("neo4j_default",))
    assert len(named.targets) == drivers.UPSTREAMS
    wanted: list[int] = []

    def choose(_: int, **named: Any) -> int:
        wanted.append(named["in_a_row"])
        return 20_001
    monkeypatch.setattr("rig.stack.ports.choose", choose)
    drivers.prepare_host(made)
    assert wanted == [drivers.UPSTREAMS]


def test_on_celery_the_scheduler_is_told_nothing(tmp_path: Path) -> None:
    assert drivers.of_scheduler(stack(tmp_path, relay="process")) == {}
    assert not drivers.has_host(stack(tmp_path, relay="process"))


def test_a_worker_without_the_shared_drivers_that_were_asked_for_is_an_error_with_the_reason(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "HOST_SECONDS", 0.1)
    log = tmp_path / "airflow-worker.log"
    log.write_text("INFO ready\nERROR tasks connect by themselves: WORKER_INIT_MAX_SIZE is no whole number\nINFO\n")
    with pytest.raises(RelayMissing, match=r"\(relay process\): WORKER_INIT_MAX_SIZE is no whole number — "):
        drivers.require_relay(stack(tmp_path, relay="process"), log)
    with pytest.raises(RelayMissing, match="its log does not say why: "):
        drivers.require_relay(stack(tmp_path, relay="shared"), tmp_path / "none.log")
    drivers.require_relay(stack(tmp_path), log)
    drivers.require_relay(stack(tmp_path, executor="LocalExecutor", relay="shared"), log)    # its host is a service


def test_of_several_workers_each_must_have_shared_drivers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drivers, "HOST_SECONDS", 0.1)
    monkeypatch.setattr(drivers, "find_folders", lambda _: [tmp_path / "first", tmp_path / "second"])
    monkeypatch.setattr(drivers, "is_sharing", lambda folder: folder.name == "first")
    drivers.require_relay(stack(tmp_path, relay="process"), tmp_path / "none.log")
    with pytest.raises(RelayMissing):
        drivers.require_relay(stack(tmp_path, relay="process"), tmp_path / "none.log", hosts=2)


def test_a_setting_that_cannot_be_used_is_what_the_reason_names(tmp_path: Path) -> None:
    """The words in the log are worker_init's: it is asked for them itself."""
    done = subprocess.run([sys.executable, "-c", "import logging, os; logging.basicConfig(); "
                           "from worker_init.lifecycle import this_process as p; p.open(1, os.environ); p.announce()"],
                          env={"PATH": "/bin", "NEO4J_URI": "bolt://db", "WORKER_INIT_MAX_SIZE": "abc"},
                          capture_output=True, text=True, check=True)
    log = tmp_path / "airflow-worker.log"
    log.write_text(done.stderr)
    assert "WORKER_INIT_MAX_SIZE" in drivers._reason(log)
