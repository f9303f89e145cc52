"""The workload at any size: up to 16 runs at once, one pattern or several in turn.

The default is 50 tasks; 10,000 are possible. Several `patterns` alternate task by task within the run. This is the only
way to compare the latencies of tasks, which differ by a factor of two from run to run.

The tasks run in a pool of their own, `neo4j_stress_test`, because Airflow counts `max_active_tasks` for each run and
not for all runs together. **The pool must exist**, or the tasks wait for it forever. Its slots are the number of tasks
that may run at once, so make it as large as the executor:

    airflow pools set neo4j_stress_test 16 "Slots of neo4j_stress_test, over all its runs"

More than 1,024 tasks need `AIRFLOW__CORE__MAX_MAP_LENGTH` raised, to 10000 for the largest run. A task whose
answer is wrong fails.
"""

# The words dag and airflow must be in this file: Airflow's DAG discovery skips files without them.
from patterns.airflow_tasks import mapped_workload, neo4j_dag, patterns_param, workload_params
from patterns.facts import MOST_STRESS_RUNS

with neo4j_dag("neo4j_stress_test", __doc__, workload_params(tasks=50) | patterns_param("problematic"),
               pool="neo4j_stress_test", max_active_runs=MOST_STRESS_RUNS) as dag:
    mapped_workload()
