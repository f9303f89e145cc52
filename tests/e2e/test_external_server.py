"""A stack with the user's own Neo4j, which others use too; an ordinary user runs it if there is one."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from rig.stack import processes
from testing.neo4j_server import StartedNeo4j
from tests.e2e import ordinary_user
from tests.e2e.refusing_proxy import RefusingProxy
from tests.e2e.rig_command import Result, Rig, a_rig

pytestmark = pytest.mark.stack

TINY = ("compare", "--profile", "quick", "--tasks", "4", "--hold", "1", "--calls", "2",
        "--executors", "local", "--patterns", "problematic", "--seed", "1")

@dataclass(frozen=True)
class Compared:
    """A comparison on the stack, and its one DAG run and cell."""

    result: Result
    record: dict[str, Any]
    cell: dict[str, Any]

    @classmethod
    def on(cls, stack: Rig) -> "Compared":
        """Make one."""
        result = stack.run(*TINY)
        summary = json.loads((stack.runs()[-1] / "summary.json").read_text(encoding="utf-8"))
        return cls(result, stack.dag_runs()[-1].model_dump(), summary["cells"][0])


@pytest.fixture(scope="module")
def server(neo4j_server: StartedNeo4j) -> Iterator[RefusingProxy]:
    """Put a proxy before the server: it can be made to refuse while the stack stays as it is."""
    with closing(RefusingProxy(neo4j_server.uri)) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Rig | str]:
    """Make a rig that an ordinary user runs, or say why there is none."""
    with a_rig() as place:      # a folder that every user may look into
        try:
            found = ordinary_user.find_or_make(place.home)
        except LookupError as error:
            yield str(error)
            return
        with a_rig(user=found.user, command=found.command, settings=found.environment) as made:
            yield made


@pytest.fixture(scope="module")
def stack(ordinary: Rig | str, server: RefusingProxy, neo4j_server: StartedNeo4j) -> Iterator[Rig]:
    with a_rig() as fallback:
        made = fallback if isinstance(ordinary, str) else ordinary
        made.settings.update(NEO4J_URI=server.uri, NEO4J_PASSWORD=neo4j_server.password)
        made.run("up").require()
        yield made
        made.run("down").require()
        assert made.leftovers() == []
        assert neo4j_server.process
        assert processes.find(neo4j_server.process), "the user's own server goes on"


@pytest.fixture(scope="module")
def shared(stack: Rig) -> Compared:
    """Compare with a server that tells what is open."""
    return Compared.on(stack)


@pytest.fixture(scope="module")
def refused(stack: Rig, server: RefusingProxy, shared: Compared) -> Compared:
    """Compare with a server that does not let this user list connections."""
    server.refusing = True
    return Compared.on(stack)


def test_no_neo4j_of_the_rigs_own_is_started(stack: Rig) -> None:
    assert set(stack.state().services) == {"postgres", "redis", "airflow-apiserver", "airflow-dag-processor",
                                           "airflow-scheduler"}
    assert not any(process.name() == "java" for process in stack.processes())


def test_the_stack_runs_as_an_ordinary_user(stack: Rig, ordinary: Rig | str) -> None:
    if isinstance(ordinary, str):
        pytest.skip(ordinary)
    pids = [service.process.pid for service in stack.state().services.values()]
    assert all(psutil.Process(pid).uids().effective != 0 for pid in pids)


def test_the_password_of_the_users_own_server_is_not_shown(
        stack: Rig, server: RefusingProxy, neo4j_server: StartedNeo4j) -> None:
    shown = stack.run("status").require().out
    assert server.uri in shown
    assert neo4j_server.password not in shown


def test_a_count_on_a_server_that_others_use_is_a_lower_bound_and_says_so(stack: Rig, shared: Compared) -> None:
    shared.result.require()
    assert "at least" in shared.result.out
    opened = shared.cell["metrics"]["connections_opened"]
    assert opened["lower_bound"]
    assert 1 <= opened["median"] <= 8
    assert (shared.record["opened_exact"], shared.record["opened"]) == (False, opened["median"])
    assert "lower bound" in shared.record["opened_reason"]
    assert "lower bound" in (stack.runs()[0] / "report.html").read_text(encoding="utf-8")


def test_the_tasks_of_a_stack_that_is_up_would_go_past_a_tap(stack: Rig) -> None:
    stack.run(*TINY, "--tap").require_one_line("--tap needs a stack that the comparison starts itself", "`rig down`")


def test_a_user_who_may_not_list_connections_is_told_and_the_run_goes_on(refused: Compared) -> None:
    refused.result.require()
    assert "connections cannot be listed with this user" in refused.result.out
    assert (refused.cell["tasks_succeeded"], refused.cell["tasks_wrong"]) == (4, 0)


def test_what_cannot_be_counted_is_missing_with_its_reason(refused: Compared) -> None:
    metrics = refused.cell["metrics"]
    for name in ("connections_opened", "connections_closed", "connections_peak", "connections_idle",
                 "connections_left_5s"):
        assert metrics[name]["median"] is None, name
        assert metrics[name]["reason"], name
    assert metrics["connections_opened"]["reason"].startswith("connections cannot be listed: There is no procedure")


def test_what_the_tasks_report_themselves_is_there_all_the_same(refused: Compared) -> None:
    metrics = refused.cell["metrics"]
    assert metrics["drivers_created"]["median"] == 8
    assert metrics["makespan_seconds"]["median"] > 1
