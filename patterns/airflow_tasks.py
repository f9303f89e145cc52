"""What the DAGs have in common, so that a DAG file contains only its id, its documentation and its limits.

Nothing here imports the driver until a task runs. The DAG processor parses DAG files again and again, and ``import
neo4j`` would be the largest part of that cost.
"""

import os
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Param, get_current_context, task

from patterns.facts import LONGEST_HOLD, MOST_CALLS, MOST_TASKS
from patterns.registry import PATTERNS
from patterns.target import ALIAS, ROOT

if TYPE_CHECKING:
    from patterns.clients import Answer
    from patterns.monitor import Summary
    from patterns.workload import Row

# How many mapped tasks of one DAG run may be active. The comparison is about the executor's slots, so nothing else may
# be the limit. Airflow's default of 16 would be, and would make every executor look the same.
MAX_ACTIVE_TASKS = MOST_TASKS

TAGS = ["neo4j"]


def workload_params(tasks: int = 100) -> dict[str, Param]:
    """Return the parameters of a DAG that runs the workload; ``tasks`` is that DAG's default number of tasks."""
    return {
        "tasks": Param(tasks, type="integer", minimum=1, maximum=MOST_TASKS, title="Tasks",
                       description="How many tasks run the workload. More than 1,024 need Airflow's "
                                   "core.max_map_length raised."),
        "calls": Param(3, type="integer", minimum=1, maximum=MOST_CALLS, title="Calls per task",
                       description="How often each task asks its pattern for a driver and runs one query. "
                                   "With 1, nothing can ever be reused."),
        "hold": Param(2, type="number", minimum=0, maximum=LONGEST_HOLD, title="Hold (seconds)",
                      description="How long each task stays after its last call, with no session open and its "
                                  "drivers kept."),
        "driver": Param("sync", type="string", enum=["sync", "async"], title="Driver",
                        description="The synchronous or the asyncio driver."),
    } | alias_param()


def patterns_param(default: str) -> dict[str, Param]:
    """Return the parameter that chooses one pattern, or several."""
    return {
        "patterns": Param([default], type="array", minItems=1, title="Patterns",
                          items={"type": "string", "enum": list(PATTERNS)}, examples=list(PATTERNS),
                          description="One pattern, or several that alternate task by task: task 0 has the "
                                      "first, task 1 the second, and so on. Only latencies of tasks "
                                      "in the same run can be compared."),
    }


def alias_param() -> dict[str, Param]:
    """Return the parameter that names the driver, and thereby the server that it connects to."""
    return {
        "alias": Param(ROOT, type="string", pattern=f"^{ALIAS}$", title="Alias",
                       description="The driver's name. NEO4J_<ALIAS>_URI, _USERNAME, _PASSWORD and _DATABASE "
                                   "say where it connects to; each falls back to NEO4J_URI and so on."),
    }


def neo4j_dag(dag_id: str, doc: str, params: dict[str, Param], *, pool: str = "default_pool",
              **changes: Any) -> DAG:
    """Return an empty DAG with everything that the DAGs have in common; ``changes`` override arguments of DAG."""
    common: dict[str, Any] = {
        "doc_md": doc, "description": doc.strip().splitlines()[0], "params": params, "tags": TAGS,
        "schedule": None, "catchup": False, "is_paused_upon_creation": True,
        "max_active_runs": 1, "max_active_tasks": MAX_ACTIVE_TASKS,
        # A retry would open connections that belong to no row, and hide the failure of the first attempt.
        "default_args": {"retries": 0, "pool": pool},
    }
    return DAG(dag_id, **common | changes)


def mapped_workload(pattern: str | None = None) -> None:
    """Add two tasks to the DAG: ``plan``, which makes the list, and ``query``, mapped over it, which runs the workload.

    Without ``pattern``, the run's parameter ``patterns`` decides.
    """
    task(query).partial(pattern=pattern).expand(index=task(plan)())


def every_client() -> None:
    """Add a task to the DAG for each client that can reach the shared driver."""
    from airflow.providers.neo4j.operators.neo4j import Neo4jOperator  # noqa: PLC0415 - only this DAG needs it

    for client in ("driver", "async_driver", "environment", "hook", "neomodel"):
        task(task_id=client)(ask_client)(client)
    Neo4jOperator(task_id="operator", cypher="RETURN 1 AS one")


def monitoring() -> None:
    """Add the task ``monitor`` to the DAG, which asks the server for its open connections."""
    task(monitor)()


def plan() -> list[int]:
    """Return one number for each task of the run."""
    return list(range(get_current_context()["params"]["tasks"]))


def query(index: int, pattern: str | None) -> "Row":
    """Run the workload and return its row, which becomes the task's XCom.

    Raises WrongAnswerError if a nonce did not come back; the row is in XCom even then.
    """
    from patterns.workload import Task, WrongAnswerError, run_task  # noqa: PLC0415 - imports the driver

    context = get_current_context()
    params = context["params"]
    row = run_task(Task(pattern or alternate(params["patterns"], index), params["driver"], params["alias"],
                        params["calls"], params["hold"], context["run_id"], index))
    if row["wrong"]:
        # The return value of a failed task is lost, but its row matters most.
        context["ti"].xcom_push("return_value", row)
        raise WrongAnswerError(f"{row['wrong']} of {row['calls']} calls did not get their nonce back")
    return row


def ask_client(client: str) -> "Answer":
    """Ask for a nonce with one client, and return the address that it used. The task is skipped without that client."""
    from airflow.sdk.exceptions import AirflowSkipException  # noqa: PLC0415 - as below

    from patterns.clients import NotInstalledError, ask  # noqa: PLC0415 - imports the driver

    try:
        return ask(client)
    except NotInstalledError as error:
        raise AirflowSkipException(str(error)) from error


def alternate(patterns: list[str], index: int) -> str:
    """Return the pattern of the task with this number."""
    return patterns[index % len(patterns)]


def monitor() -> "Summary":
    """Log and return which drivers have connections open at the server."""
    from patterns.monitor import observe  # noqa: PLC0415 - imports the driver

    return observe(os.environ, get_current_context()["params"]["alias"])
