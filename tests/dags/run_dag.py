"""Run a DAG in this process and print what came of it: ``run_dag.py <dag id> <conf as JSON>``.

Airflow's own ``dag.test()``, with the tasks one after the other. AIRFLOW_HOME holds a migrated database.
"""

import json
import sys
from pathlib import Path

from airflow.dag_processing.dagbag import DagBag
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from sqlalchemy import select

FOLDER = Path(__file__).parents[2] / "dags"


def main(dag_id: str, conf: str) -> None:
    run = DagBag(FOLDER / f"{dag_id}.py").dags[dag_id].test(run_conf=json.loads(conf))
    with create_session() as session:
        returned = session.scalars(select(XComModel).where(XComModel.run_id == run.run_id)
                                   .order_by(XComModel.map_index))
        xcoms = [{"task": xcom.task_id, "map_index": xcom.map_index, "key": xcom.key, "value": xcom.value}
                 for xcom in returned]
    tasks = [{"task": task.task_id, "map_index": task.map_index, "state": task.state, "pool": task.pool}
             for task in run.get_task_instances()]
    print(json.dumps({"state": run.state, "tasks": tasks, "xcoms": xcoms}))


if __name__ == "__main__":
    main(*sys.argv[1:])
