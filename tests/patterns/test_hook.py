"""The pattern ``hook``: the stock Neo4jHook, found by Airflow's own connection id, one driver for a task."""

import json
from urllib.parse import urlsplit

import pytest

from patterns.workload import Task, run_task
from testing.neo4j_server import StartedNeo4j

pytestmark = pytest.mark.neo4j


def connection_to(server: StartedNeo4j, **changes: object) -> str:
    parts = urlsplit(server.uri)
    return json.dumps({"conn_type": "neo4j", "host": parts.hostname, "port": parts.port, "login": server.username,
                       "password": server.password, "schema": server.database, **changes})


def test_it_uses_the_connection_that_airflow_knows(monkeypatch: pytest.MonkeyPatch, neo4j_server: StartedNeo4j) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NEO4J_DEFAULT", connection_to(neo4j_server))
    row = run_task(Task("hook", calls=3, hold=0), {})
    assert (row["wrong"], row["drivers_created"], row["calls"]) == (0, 1, 3)


def test_an_alias_is_a_connection_id_of_its_own(monkeypatch: pytest.MonkeyPatch, neo4j_server: StartedNeo4j) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NEO4J_DEFAULT", connection_to(neo4j_server, port=1))
    monkeypatch.setenv("AIRFLOW_CONN_NEO4J_REPORTS", connection_to(neo4j_server))
    assert run_task(Task("hook", alias="reports", hold=0), {})["wrong"] == 0


def test_it_has_no_async_driver_and_says_so(monkeypatch: pytest.MonkeyPatch, neo4j_server: StartedNeo4j) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NEO4J_DEFAULT", connection_to(neo4j_server))
    with pytest.raises(ValueError, match=r"the stock Neo4jHook has no async driver .* — use driver sync"):
        run_task(Task("hook", driver="async", hold=0), {})
