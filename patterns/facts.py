"""What the DAGs, the rig and the load test must agree on: names, limits, executors.

It imports only the standard library. A test checks the DAG files against it.
"""

from collections.abc import Mapping
from typing import Literal, get_args

Executor = Literal["LocalExecutor", "CeleryExecutor"]

EXECUTORS: tuple[Executor, ...] = get_args(Executor)
# As a user types them.
EXECUTOR_OF_NAME: Mapping[str, Executor] = {"local": "LocalExecutor", "celery": "CeleryExecutor"}

MONITOR_DAG = "neo4j_connection_monitor"
STRESS_DAG = "neo4j_stress_test"
CLIENTS_DAG = "neo4j_worker_clients"
# A pattern without a DAG of its own is run by the stress DAG, which takes any pattern.
DAG_OF_PATTERN: Mapping[str, str] = {
    "problematic": "neo4j_problematic_pattern", "improved": "neo4j_improved_pattern", "hook": STRESS_DAG,
    "worker": "neo4j_worker_pattern", "inherited": STRESS_DAG}
DAG_IDS = tuple(sorted({MONITOR_DAG, CLIENTS_DAG, *DAG_OF_PATTERN.values()}))

QUERY_TASK = "query"            # the mapped task that does the workload, in every DAG of a pattern
STRESS_POOL = "neo4j_stress_test"
MONITOR_PATTERN = "monitor"     # what the monitor's connection gives as its pattern

# The limits of what one DAG run may be asked to do.
MOST_TASKS = 10_000
MOST_CALLS = 1000
LONGEST_HOLD = 3600     # seconds
MOST_STRESS_RUNS = 16   # of the stress DAG at once: its others wait in Airflow
