"""What the DAGs, the rig and the load test have to agree on: names, limits, executors.

The ground floor: it imports nothing of this project, and the standard library alone. A test holds the DAG files to it.
"""

from collections.abc import Mapping
from typing import Literal, get_args

Executor = Literal["LocalExecutor", "CeleryExecutor"]

EXECUTORS: tuple[Executor, ...] = get_args(Executor)
# As a person types them.
EXECUTOR_OF_NAME: Mapping[str, Executor] = {"local": "LocalExecutor", "celery": "CeleryExecutor"}

MONITOR_DAG = "neo4j_connection_monitor"
STRESS_DAG = "neo4j_stress_test"
CLIENTS_DAG = "neo4j_worker_clients"
# A pattern with no DAG of its own is run by the stress DAG, which takes any.
DAG_OF_PATTERN: Mapping[str, str] = {
    "problematic": "neo4j_problematic_pattern", "improved": "neo4j_improved_pattern", "hook": STRESS_DAG,
    "worker": "neo4j_worker_pattern", "inherited": STRESS_DAG}
DAG_IDS = tuple(sorted({MONITOR_DAG, CLIENTS_DAG, *DAG_OF_PATTERN.values()}))

QUERY_TASK = "query"            # the mapped task that does the workload, in every DAG of a pattern
STRESS_POOL = "neo4j_stress_test"
MONITOR_PATTERN = "monitor"     # what the monitor's connection calls itself, as a task's names its pattern

# What one DAG run may be asked for.
MOST_TASKS = 10_000
MOST_CALLS = 1000
LONGEST_HOLD = 3600     # seconds
