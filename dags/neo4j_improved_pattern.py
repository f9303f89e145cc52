"""One Neo4j driver for each process, verified before reuse and closed at exit: better.

The same 100 tasks as in `neo4j_problematic_pattern`. Each makes one driver at its first call, reuses it for the later
ones (`🍌 Improved: reusing existing sync driver for root`), and closes it when its process ends.

What this saves, and what it does not: a task opens one connection instead of one for every call. But on Airflow 3 every
task is a separate process, with LocalExecutor and with CeleryExecutor, so the cache never reaches the next task: 100
tasks still open 100 connections.

`NEO4J_URI`, `NEO4J_USERNAME`, `NEO4J_PASSWORD` and `NEO4J_DATABASE` in the environment of the workers say which server
the tasks query. A task whose answer is wrong fails.
"""

# The words dag and airflow must be in this file: Airflow's DAG discovery skips files without them.
from patterns.airflow_tasks import mapped_workload, neo4j_dag, workload_params

with neo4j_dag("neo4j_improved_pattern", __doc__, workload_params()) as dag:
    mapped_workload("improved")
