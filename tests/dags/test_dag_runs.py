"""The DAGs, run by Airflow against a real server."""

from collections.abc import Callable

import pytest

from testing.neo4j_server import StartedNeo4j
from tests.dags.conftest import Ended
from tests.patterns.tampering import tampering_proxy
from tests.patterns.test_hook import connection_to

pytestmark = pytest.mark.neo4j

RunDag = Callable[..., Ended]


@pytest.mark.parametrize(("dag_id", "driver", "drivers"), [
    ("neo4j_problematic_pattern", "sync", 6), ("neo4j_improved_pattern", "async", 1),
    ("neo4j_worker_pattern", "sync", 1)])
def test_a_dag_runs_its_pattern_and_returns_a_row_for_each_task(
        run_dag: RunDag, dag_id: str, driver: str, drivers: int) -> None:
    ended = run_dag(dag_id, {"tasks": 2, "hold": 0.1, "driver": driver, "alias": "reports"})
    rows = ended.returned("query")
    assert (ended.state, ended.states("query")) == ("success", ["success"] * 2)
    assert [row["map_index"] for row in rows] == [0, 1]
    assert {(row["pattern"], row["driver"], row["alias"], row["calls"], row["wrong"]) for row in rows} == {
        (dag_id.split("_")[1], driver, "reports", 3, 0)}
    # dag.test() runs both tasks in one process, in any order: the second one finds the first one's cache.
    assert sum(row["drivers_created"] for row in rows) == drivers
    assert all(row["run_id"].startswith("manual__") for row in rows)
    assert {found["key"] for found in ended.xcoms} == {"return_value"}


def test_the_seeds_lines_are_in_the_task_log(run_dag: RunDag) -> None:
    log = run_dag("neo4j_stress_test", {"tasks": 2, "hold": 0, "patterns": ["problematic", "improved"]}).log
    for line in ("🍌 DEBUG: about to create NEW driver for alias 'root' (THIS IS THE PROBLEM!)🍌🍌🍌",
                 "🍌 Problematic: created new driver for alias 'root'",
                 "🍌 Improved: reusing existing sync driver for root"):
        assert line in log


def test_several_patterns_alternate_task_by_task(run_dag: RunDag) -> None:
    ended = run_dag("neo4j_stress_test", {"tasks": 5, "calls": 1, "hold": 0, "patterns": ["improved", "problematic"]})
    assert [row["pattern"] for row in ended.returned("query")] == [
        "improved", "problematic", "improved", "problematic", "improved"]


def test_a_task_whose_nonce_does_not_come_back_fails_and_leaves_its_row(
        run_dag: RunDag, neo4j_server: StartedNeo4j) -> None:
    with tampering_proxy(neo4j_server.uri) as uri:
        ended = run_dag("neo4j_improved_pattern", {"tasks": 2, "hold": 0}, NEO4J_URI=uri)
    assert (ended.state, ended.states("query")) == ("failed", ["failed"] * 2)
    assert [row["wrong"] for row in ended.returned("query")] == [3, 3]
    assert "3 of 3 calls did not get their nonce back" in ended.log


def test_a_server_that_answers_nothing_fails_the_task_with_the_drivers_own_error(run_dag: RunDag) -> None:
    ended = run_dag("neo4j_problematic_pattern", {"tasks": 1, "hold": 0}, NEO4J_URI="bolt://127.0.0.1:1")
    assert (ended.state, ended.states("query"), ended.returned("query")) == ("failed", ["failed"], [])
    assert "ServiceUnavailable" in ended.log


def test_a_missing_setting_fails_the_task_with_what_to_do(run_dag: RunDag) -> None:
    ended = run_dag("neo4j_improved_pattern", {"tasks": 1, "hold": 0}, NEO4J_PASSWORD="")
    assert ended.state == "failed"
    assert "NEO4J_PASSWORD is not set: expected the password of the user" in ended.log


def test_the_monitor_logs_a_table_and_returns_it(run_dag: RunDag) -> None:
    ended = run_dag("neo4j_connection_monitor", {})
    (summary,) = ended.returned("monitor")
    assert ended.state == "success"
    assert summary["schema"] == 1
    assert f"🍌 Monitor: {summary['open']} connections open at the server" in ended.log


def test_every_client_reaches_the_server_by_itself_where_no_worker_has_a_driver(
        run_dag: RunDag, neo4j_server: StartedNeo4j) -> None:
    ended = run_dag("neo4j_worker_clients", {}, AIRFLOW_CONN_NEO4J_DEFAULT=connection_to(neo4j_server))
    clients = ["driver", "async_driver", "environment", "hook"]
    assert ended.state == "success"
    assert [ended.states(client) for client in [*clients, "operator", "neomodel"]] == [["success"]] * 5 + [["skipped"]]
    answers = [ended.returned(client)[0] for client in clients]
    assert answers == [{"client": client, "address": neo4j_server.uri.removeprefix("bolt://"), "through_worker": False}
                       for client in clients]


def test_a_client_that_went_past_the_worker_fails(run_dag: RunDag, neo4j_server: StartedNeo4j) -> None:
    with tampering_proxy(neo4j_server.uri) as uri:     # as if it were the worker's: any other address will do
        ended = run_dag("neo4j_worker_clients", {}, AIRFLOW_CONN_NEO4J_DEFAULT=connection_to(neo4j_server),
                        NEO4J_WORKER_URI=uri, NEO4J_WORKER_USERNAME=neo4j_server.username,
                        NEO4J_WORKER_PASSWORD=neo4j_server.password)
    assert ended.states("hook") == ["failed"]
    assert f"hook talked to {neo4j_server.uri.removeprefix('bolt://')}, and the shared driver is at" in ended.log
