"""Every way to the shared driver, in one task each. Only the address differs from an ordinary connection.

- `driver` and `async_driver`: `worker_init.driver()` and `worker_init.async_driver()`;
- `environment`: a plain Neo4j driver with `NEO4J_WORKER_URI`, `_USERNAME` and `_PASSWORD`, as a client in any language
  could use them;
- `hook`: the stock `Neo4jHook` with its default connection id `neo4j_default`;
- `operator`: the stock `Neo4jOperator` with the same;
- `neomodel`: the object-graph mapper, if it is installed; otherwise skipped (neomodel 7.0 needs a driver 6.1, this
  project runs with a later one).

Each sends a nonce. It fails if another one comes back, or if it did not use the shared driver although there is one.
Without a shared driver, all of them connect to the server by themselves, and say so in their XCom.
"""

# The words dag and airflow must be in this file: Airflow's DAG discovery skips files without them.
from patterns.airflow_tasks import every_client, neo4j_dag

with neo4j_dag("neo4j_worker_clients", __doc__, {}) as dag:
    every_client()
