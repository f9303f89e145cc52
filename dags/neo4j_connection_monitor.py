"""The server's view of our drivers, every minute.

A count kept in Python cannot include other tasks' drivers, because each task is a separate process. So this DAG asks
the server, with `CALL dbms.listConnections()` and `SHOW TRANSACTIONS`, and groups the connections by user agent and
client address. For each worker process (`host:pid`) it shows the drivers that have connections open (the task's pid,
pattern and alias), and how many of these are idle and how many in a transaction. After that come all clients that are
not ours. The table is in the log of `monitor`; the figures are in its XCom.

- It shows one moment of each minute: a task that lasts two seconds is mostly missed. For counts that miss
  nothing use the rig.
- The monitor's own connection is left out. It is a connection all the same: leave this DAG paused while
  something is measured.
- The user of `NEO4J_USERNAME` needs the right to list connections. Without administrative rights a user
  sees its own connections only, as on Aura.
"""

# The words dag and airflow must be in this file: Airflow's DAG discovery skips files without them.
from datetime import UTC, datetime

from patterns.airflow_tasks import alias_param, monitoring, neo4j_dag

with neo4j_dag("neo4j_connection_monitor", __doc__, alias_param(),
               schedule="* * * * *", start_date=datetime(2025, 1, 1, tzinfo=UTC)) as dag:
    monitoring()
