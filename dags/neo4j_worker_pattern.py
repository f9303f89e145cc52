"""The shared driver of the pool process, used by every task that is forked from it.

The same 100 tasks as in `neo4j_problematic_pattern` and `neo4j_improved_pattern`. Each calls `worker_init.driver()`. In
a Celery worker that loads `worker_init.hooks`, this connects to the shared driver of the pool process. The connection
to Neo4j stays open when the task process ends, and the next task of the same pool process uses it again. So 100 tasks
on 16 pool processes open 16 connections, and the next 100 tasks open none.

What to look at:

- the log of a `query` task: `🍌 Worker: created sync driver for root at bolt://127.0.0.1:…`: the address of a
  relay on this machine, not the server's;
- Flower, the worker's page, tab *Other*, section `neo4j` (or `rig workers`): the shared driver of each pool process;
- `neo4j_worker_clients`: the same for the stock hook and operator, and for any other client.

If there is no shared driver (LocalExecutor without a driver host beside it, or `WORKER_INIT_DISABLED=1`), the tasks
connect by themselves, as in `neo4j_improved_pattern`. A task whose answer is wrong fails.
"""

# The words dag and airflow must be in this file: Airflow's DAG discovery skips files without them.
from patterns.airflow_tasks import mapped_workload, neo4j_dag, workload_params

with neo4j_dag("neo4j_worker_pattern", __doc__, workload_params()) as dag:
    mapped_workload("worker")
