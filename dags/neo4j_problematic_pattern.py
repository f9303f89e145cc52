"""A new Neo4j driver for every call, never closed: the problem.

Each of 100 tasks asks for a driver three times. Each time it gets a new one, runs one query with it and leaves it open.
So the server has a connection for every call until the task process ends, although no task ever uses more than one at a
time.

What to look at:

- the log of a `query` task: `🍌 DEBUG: about to create NEW driver for alias 'root'` once for each call;
- its XCom `return_value`: `drivers_created` and the times of the calls;
- `neo4j_connection_monitor`, unpaused while this runs: the server's view.

Compare with `neo4j_improved_pattern`, which does the same work. `NEO4J_URI`, `NEO4J_USERNAME`, `NEO4J_PASSWORD` and
`NEO4J_DATABASE` in the environment of the workers say which server the tasks query. A task whose answer is wrong fails.
"""

# The words dag and airflow must be in this file: Airflow's DAG discovery skips files without them.
from patterns.airflow_tasks import mapped_workload, neo4j_dag, workload_params

with neo4j_dag("neo4j_problematic_pattern", __doc__, workload_params()) as dag:
    mapped_workload("problematic")
