"""How many connections the tasks of a deployment open if only this package's single setting is added to it.

The Neo4j connection ``graph`` is in Airflow's metadata database, created through Airflow's API as its web page does. No
process of Airflow has a variable of Neo4j's or of this package's. On each executor, 100 tasks run with the stock
``Neo4jHook`` and then with the stock ``Neo4jOperator``, first without and then with the package::

    python -m benchmarks.connections

On CeleryExecutor the setting is ``imports``; on LocalExecutor it is the file that ``worker-driver serve --airflow``
writes. The server's own ids tell how many connections it has accepted.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import get_args

import neo4j

from benchmarks.on_airflow import console, on_a_stack_with_dags, run_dag
from patterns.facts import Executor
from rig.records import Relay
from rig.stack.drivers import CONNECTION
from rig.stack.native import NativeStack
from rig.stack.state import StackState
from worker_init.arguments import whole
from worker_init.settings import PREFIX

DAGS = {"Neo4jHook": "benchmark_hook", "Neo4jOperator": "benchmark_operator"}
OWN = ("NEO4J_URI", "NEO4J_USERNAME", "NEO4J_PASSWORD", "NEO4J_DATABASE", CONNECTION)
RELAYS: dict[Relay, str] = {"none": "without the package", "process": "with it"}


class Bare(NativeStack):
    """A stack whose Airflow has no settings for Neo4j."""

    def _env(self, state: StackState) -> dict[str, str]:
        return {name: value for name, value in super()._env(state).items() if name not in OWN}


class Counter:
    """Counts the connections that a server accepts, by their ids, which it never gives twice."""

    def __init__(self, state: StackState) -> None:
        self._uri = state.neo4j_uri
        self._auth = (state.neo4j_username, state.secrets.neo4j.get_secret_value())
        self._last = self._newest()

    def opened(self) -> int:
        """Return how many connections were opened since the last call, except its own."""
        before, self._last = self._last, self._newest()
        return self._last - before - 1

    def _newest(self) -> int:
        with neo4j.GraphDatabase.driver(self._uri, auth=self._auth) as driver:
            records = driver.execute_query("CALL dbms.listConnections() YIELD connectionId, connector",
                                           database_="system").records
        return max(int(record["connectionId"].removeprefix("bolt-")) for record in records
                   if record["connectionId"].startswith("bolt-"))


def measure(stack: NativeStack, executors: Sequence[Executor], tasks: int) -> None:
    """Print how many connections each case opened."""
    state = stack.state()
    with stack.api(state) as api:
        api.make_connection({"connection_id": "graph", "conn_type": "neo4j", "host": "127.0.0.1",
                             "port": int(state.neo4j_uri.rsplit(":", 1)[1]), "login": state.neo4j_username,
                             "password": state.secrets.neo4j.get_secret_value()})
    for executor in executors:
        for relay, case in RELAYS.items():
            measure_case(stack, executor, relay, case, tasks)


def measure_case(stack: NativeStack, executor: Executor, relay: Relay, case: str, tasks: int) -> None:
    """Switch to an executor with or without the package, and run both DAGs."""
    # As the hooks do unless they are told otherwise; nothing preloads beside LocalExecutor but a plugin.
    state = stack.switch(executor, relay, preload=relay != "none" and executor == "CeleryExecutor")
    with stack.api(state) as api:
        for client, dag in DAGS.items():
            with api.paused(dag, False):
                counter = Counter(state)
                run_id = run_dag(stack, api, dag, {"tasks": tasks})
                opened = counter.opened()
                states = [one["state"] for one in api.task_instances(dag, run_id, "query")]
            processes = len(set(api.returned(dag, run_id, "query", [*range(tasks)]))) if "Hook" in client else None
            console.print(f"{executor}, {case}, {client}: {opened} connections for {states.count('success')} tasks"
                          + (f" on {processes} processes" if processes else ""), soft_wrap=True)


def main() -> int:
    """Start a stack, measure, and stop the stack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=whole(1), default=100, help="tasks of each DAG run (default 100)")
    parser.add_argument("--executor", choices=get_args(Executor), help="only this one (default: both)")
    options = parser.parse_args()
    executors = [options.executor] if options.executor else [*reversed(get_args(Executor))]
    for name in [name for name in os.environ if name in OWN or name.startswith(PREFIX)]:
        del os.environ[name]
    return on_a_stack_with_dags("connections", lambda stack, _: measure(stack, executors, options.tasks), kind=Bare)


if __name__ == "__main__":
    sys.exit(main())
