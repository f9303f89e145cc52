"""A task's connections, as Airflow itself resolves them with the package's secrets backend in front."""

import asyncio
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow.sdk.execution_time.task_runner", reason="Airflow is not installed")
from worker_init import backend_setting

if why := backend_setting.too_old():
    pytest.skip(why, allow_module_level=True)

from airflow.sdk import configuration
from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.bases.secrets_backend import BaseSecretsBackend
from airflow.sdk.configuration import conf
from airflow.sdk.definitions.connection import Connection
from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSecretsBackendAccessDenied, ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ConnectionResult, ErrorResponse, GetConnection, MaskSecret
from airflow.sdk.execution_time.context import _get_variable
from airflow.sdk.execution_time.supervisor import ensure_secrets_backend_loaded

from rig.stack.ports import choose
from testing.servers import Neo4jServer, Serving, serving
from tests.worker_init.faults import proxy
from worker_init import airflow_connections
from worker_init.airflow_connections import SharedDriverConnections, switch_on
from worker_init.backend_setting import BACKEND, FOLDER, SETTING, WRAPPED
from worker_init.control import find_folders, read_status
from worker_init.handshake import Version

FILES = "airflow.secrets.local_filesystem.LocalFilesystemBackend"
HIDDEN = "hidden-7f3a"


# Airflow 3.2 keeps none.
clear_cache: Callable[[], None] = getattr(configuration, "clear_secrets_backends_cache", lambda: None)


class Api:
    """The task's way to its supervisor, and what the metadata database behind it holds."""

    def __init__(self) -> None:
        self.connections: dict[str, dict[str, Any]] = {}
        self.is_denied = False
        self.masked: list[Any] = []

    def send(self, request: Any) -> Any:
        if isinstance(request, MaskSecret):
            self.masked.append(request.value)
            return None
        assert isinstance(request, GetConnection), request
        if self.is_denied:
            return ErrorResponse(error=ErrorType.PERMISSION_DENIED)
        if request.conn_id not in self.connections:
            return ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
        return ConnectionResult(conn_id=request.conn_id, **self.connections[request.conn_id])

    async def asend(self, request: Any) -> Any:
        return self.send(request)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    """Make this process a task's, for as long as a test takes."""
    made = Api()
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", made, raising=False)
    return made


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (SETTING, WRAPPED, FOLDER, "WORKER_INIT_CONNECTION_IDS", "AIRFLOW__SECRETS__BACKEND"):
        monkeypatch.delenv(name, raising=False)
    clear_cache()
    airflow_connections._say.cache_clear()
    yield
    clear_cache()


@pytest.fixture(scope="module")
def host(server: Neo4jServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tmp_path_factory.mktemp("host"), server.uri, server.auth) as running:
        yield running


@pytest.fixture
def switched_on(host: Serving, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Do what the hooks do in a pool process; return the host's folder."""
    return switched_on_for(host, monkeypatch)


def switched_on_for(host: Serving, monkeypatch: pytest.MonkeyPatch) -> Path:
    (folder,) = find_folders(host.folder)
    variables: dict[str, str] = {}
    switch_on(variables, folder, 0)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return folder


def fields(server: Neo4jServer, **changes: Any) -> dict[str, Any]:
    return {"conn_type": "neo4j", "host": "127.0.0.1", "port": server.port, "login": server.username,
            "password": server.password, "schema": "neo4j",
            "extra": json.dumps({"encrypted": False, "own": 1})} | changes


def in_files(connection: dict[str, Any], folder: Path) -> dict[str, str]:
    """Return arguments for the backend of files, with a connection `ours` and a variable in them."""
    connections, variables = folder / "connections.json", folder / "variables.json"
    connections.write_text(json.dumps({"ours": connection}))
    variables.write_text(json.dumps({"color": "blue"}))
    return {"connections_file_path": str(connections), "variables_file_path": str(variables)}


Get = Callable[[str], Any]


@pytest.fixture(params=["sync", "async"])
def get(request: pytest.FixtureRequest) -> Get:
    """Get a connection as a task's code does, which may be asynchronous."""
    if request.param == "sync":
        return BaseHook.get_connection
    return lambda conn_id: asyncio.run(BaseHook.aget_connection(conn_id))


def check_shared(found: Any, host: Serving) -> None:
    """Fail unless a connection leads to the host, with its database and its extras but not those of TLS."""
    assert (found.host, found.port, found.login, found.password) == ("127.0.0.1", host.port, *host.auth)
    assert (found.conn_id, found.conn_type, found.schema) == ("ours", "neo4j", "neo4j")
    assert json.loads(found.extra) == {"own": 1}


pytestmark = pytest.mark.neo4j


@pytest.mark.usefixtures("switched_on")
def test_a_connection_of_the_metadata_database_is_shared(get: Get, api: Api, host: Serving,
                                                         server: Neo4jServer) -> None:
    api.connections["ours"] = fields(server)
    check_shared(get("ours"), host)
    assert server.password in api.masked


@pytest.mark.usefixtures("switched_on", "api")
def test_a_connection_of_the_environment_is_shared(get: Get, host: Serving, server: Neo4jServer,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OURS", json.dumps(fields(server)))
    check_shared(get("ours"), host)


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(("section", "backend", "kwargs"), [
    ("SECRETS", "BACKEND", "BACKEND_KWARGS"), ("WORKERS", "SECRETS_BACKEND", "SECRETS_BACKEND_KWARGS")])
def test_the_users_backend_is_asked_first_with_its_arguments(section: str, backend: str, kwargs: str, get: Get,  # noqa: PLR0917
                                                             request: pytest.FixtureRequest, tmp_path: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    server, host = request.getfixturevalue("server"), request.getfixturevalue("host")
    monkeypatch.setenv(f"AIRFLOW__{section}__{backend}", FILES)
    monkeypatch.setenv(f"AIRFLOW__{section}__{kwargs}", json.dumps(in_files(fields(server), tmp_path)))
    monkeypatch.setenv("AIRFLOW_CONN_OURS", json.dumps(fields(server, login="of the environment")))
    request.getfixturevalue("switched_on")
    check_shared(get("ours"), host)
    assert _get_variable("color", deserialize_json=False) == "blue"


@pytest.mark.usefixtures("switched_on")
@pytest.mark.parametrize(("ids", "changes"), [
    (None, {"conn_type": "postgres"}), (None, {"conn_type": "bolt"}), ("other", {}), ("*,!ours", {}), ("", {}),
    ("!o*", {})])
def test_what_is_of_another_type_or_excluded_is_untouched(ids: str | None, changes: dict[str, str], get: Get,  # noqa: PLR0917
                                                          api: Api, server: Neo4jServer,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    if ids is not None:
        monkeypatch.setenv("WORKER_INIT_CONNECTION_IDS", ids)
    own = api.connections["ours"] = fields(server, **changes)
    found = get("ours")
    assert {name: getattr(found, name) for name in own} == own


@pytest.mark.usefixtures("switched_on")
def test_one_that_is_listed_by_name_may_have_been_given_another_type(get: Get, api: Api, host: Serving,
                                                                     server: Neo4jServer,
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_INIT_CONNECTION_IDS", "ours")
    api.connections["ours"] = fields(server, conn_type="generic")
    assert get("ours").port == host.port


@pytest.mark.usefixtures("switched_on")
def test_one_that_is_deleted_is_not_found(get: Get, api: Api, server: Neo4jServer) -> None:
    api.connections["ours"] = fields(server)
    get("ours")
    del api.connections["ours"]
    with pytest.raises(AirflowNotFoundException, match="ours"):
        get("ours")


def test_one_whose_password_is_changed_has_another_address(get: Get, api: Api, server: Neo4jServer,
                                                           switched_on: Path) -> None:
    api.connections["ours"] = fields(server, host="localhost")
    before = get("ours").port
    api.connections["ours"] = fields(server, host="localhost", password=HIDDEN)
    assert get("ours").port != before
    assert HIDDEN not in json.dumps(read_status(switched_on, 5.0))


@pytest.mark.usefixtures("switched_on", "api")
def test_a_teams_connection_is_shared(host: Serving, server: Neo4jServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN__SALES___OURS", json.dumps(fields(server)))
    monkeypatch.setenv("AIRFLOW_CONN_OURS", json.dumps(fields(server, login="of nobody's team")))
    backend, *_ = ensure_secrets_backend_loaded()
    check_shared(backend.get_connection("ours", team_name="sales"), host)


class OfBeforeTeams(BaseSecretsBackend):
    """A user's own backend, written when Airflow had no teams."""

    def get_connection(self, conn_id: str) -> Any:      # type: ignore[override]
        value = json.loads(os.environ["KEPT_ELSEWHERE"])
        return Connection(conn_id=conn_id, **value)


def test_a_backend_that_knows_no_teams_is_asked_without(server: Neo4jServer, request: pytest.FixtureRequest,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT_ELSEWHERE", json.dumps(fields(server)))
    monkeypatch.setenv(SETTING, f"{__name__}.{OfBeforeTeams.__name__}")
    request.getfixturevalue("switched_on")
    request.getfixturevalue("api")
    backend, *_ = ensure_secrets_backend_loaded()
    check_shared(backend.get_connection("ours", team_name="sales"), request.getfixturevalue("host"))


@pytest.mark.usefixtures("switched_on")
def test_a_denial_stays_one(get: Get, api: Api) -> None:
    api.is_denied = True
    with pytest.raises(AirflowSecretsBackendAccessDenied, match="ours"):
        get("ours")


class Denying(BaseSecretsBackend):
    """A user's own backend that denies what it is asked for."""

    def get_connection(self, conn_id: str, team_name: str | None = None) -> Any:
        raise AirflowSecretsBackendAccessDenied(f"{conn_id} is denied to {team_name}")


def test_what_the_users_backend_denies_is_not_looked_for_elsewhere(get: Get, api: Api, server: Neo4jServer,
                                                                   request: pytest.FixtureRequest,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, f"{__name__}.{Denying.__name__}")
    monkeypatch.setenv("AIRFLOW_CONN_OURS", json.dumps(fields(server)))
    api.connections["ours"] = fields(server)
    request.getfixturevalue("switched_on")
    with pytest.raises(AirflowSecretsBackendAccessDenied, match="ours is denied"):
        get("ours")


@pytest.mark.usefixtures("switched_on")
def test_without_a_host_the_task_has_its_own_connection_and_one_line(get: Get, api: Api, server: Neo4jServer,  # noqa: PLR0917
                                                                     tmp_path: Path,
                                                                     monkeypatch: pytest.MonkeyPatch,
                                                                     caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    own = api.connections["ours"] = fields(server)
    with caplog.at_level(logging.INFO, "worker_init"):
        for _ in range(3):
            found = get("ours")
    assert {name: getattr(found, name) for name in own} == own
    (record,) = caplog.records
    assert record.getMessage().startswith(f"connection ours: this task connects by itself: no driver host answers in "
                                          f"{tmp_path}")
    assert server.password not in record.getMessage()


def test_a_host_that_was_killed_and_started_again_is_found_by_who_knows_the_first(
        api: Api, server: Neo4jServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEO4J_WORKER_PASSWORD", HIDDEN)
    port = choose(0, variable="a test")
    api.connections["ours"] = fields(server)
    with serving(tmp_path, server.uri, server.auth, port=port) as first:
        switched_on_for(first, monkeypatch)
        first.process.kill()
        first.process.wait()
        assert BaseHook.get_connection("ours").port == server.port, "while there is no host"
    with serving(tmp_path, server.uri, server.auth, port=port) as second:
        check_shared(BaseHook.get_connection("ours"), second)
        with first.driver() as driver:
            assert driver.execute_query("RETURN 1").records[0].value() == 1
        (status,) = [read_status(folder, 5.0) for folder in find_folders(tmp_path)]
    assert status["drivers"][0]["leases"] == 1


@pytest.mark.usefixtures("switched_on")
def test_a_server_of_too_old_a_bolt_is_the_tasks_own_and_one_line(get: Get, api: Api, server: Neo4jServer,
                                                                  caplog: pytest.LogCaptureFixture) -> None:
    with proxy(server.port) as hop, caplog.at_level(logging.INFO, "worker_init"):
        hop.speaks = Version(2, 0)
        own = api.connections["ours"] = fields(server, port=hop.port)
        for _ in range(3):
            found = get("ours")
            assert {name: getattr(found, name) for name in own} == own
        (record,) = caplog.records
        assert "connection ours: this task connects by itself" in record.getMessage()
        assert "Neo4j 4.4 and newer" in record.getMessage()


@pytest.mark.usefixtures("switched_on")
def test_one_that_the_hook_cannot_use_is_left_alone_with_a_line(get: Get, api: Api, server: Neo4jServer,
                                                                caplog: pytest.LogCaptureFixture) -> None:
    api.connections["ours"] = fields(server, host="bolt://db")
    assert get("ours").host == "bolt://db"
    assert "connection ours: this task connects by itself: it has a scheme in its host" in caplog.text


def test_outside_a_task_it_is_the_users_backend_and_nothing_else(switched_on: Path, server: Neo4jServer, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", None, raising=False)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", FILES)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", json.dumps(in_files(
        {**fields(server), "extra": {}}, tmp_path)))
    first, *_ = ensure_secrets_backend_loaded()
    assert isinstance(first, SharedDriverConnections)
    assert first.get_connection("ours").password == server.password
    assert first.get_connection("others") is None
    assert read_status(switched_on, 5.0)["state"] == "serving"


def test_the_setting_is_the_class_and_nothing_of_the_users_is_copied(monkeypatch: pytest.MonkeyPatch,
                                                                     tmp_path: Path) -> None:
    monkeypatch.setenv(SETTING, FILES)
    monkeypatch.setenv("AIRFLOW__WORKERS__SECRETS_BACKEND_KWARGS", json.dumps({"token": HIDDEN}))
    variables: dict[str, str] = {}
    switch_on(variables, tmp_path, 3)
    assert variables == {SETTING: BACKEND, WRAPPED: FILES, FOLDER: str(tmp_path), "WORKER_INIT_SLOT": "3"}
    # Twice, as where somebody has set it for all components: it does not wrap itself.
    monkeypatch.setenv(SETTING, BACKEND)
    switch_on(variables, tmp_path, 3)
    assert variables[WRAPPED] == FILES
    assert conf.getimport("workers", "secrets_backend") is SharedDriverConnections
