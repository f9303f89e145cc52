"""The wheel in a plain Celery worker: the example of the docs, with nothing of this checkout."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import neo4j
import pytest
from celery import Celery

from rig.settings import PROJECT
from testing.neo4j_server import StartedNeo4j
from testing.programs import running_program
from testing.servers import redis_server
from testing.waiting import eventually
from tests.packaging.distributions import Environment, run

pytestmark = [pytest.mark.neo4j, pytest.mark.broker]
LIMIT = 60.0


@pytest.fixture
def worker(neo4j_server: StartedNeo4j, wheels: dict[str, Path], tmp_path: Path) -> Iterator[Any]:
    """Run the worker of ``examples/celery_app.py`` in an environment with the wheel; the app that sends to it."""
    shutil.copy(PROJECT / "examples" / "celery_app.py", tmp_path)
    environment = Environment(tmp_path / "environment")
    environment.borrow_packages()
    environment.install(wheels["worker_init"])
    where = run(environment.python, "-c", "import celery, worker_init; print(worker_init.__file__)").stdout
    assert where.startswith(str(tmp_path))
    with redis_server(tmp_path) as broker, (tmp_path / "worker.log").open("w") as log:
        results = (tmp_path / "results").as_uri()
        (tmp_path / "results").mkdir()
        app = Celery("celery_app", broker=broker, backend=results, set_as_current=False)
        settings = {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": results, "NEO4J_URI": neo4j_server.uri,
                    "NEO4J_USERNAME": neo4j_server.username, "NEO4J_PASSWORD": neo4j_server.password,
                    "NEO4J_DATABASE": "neo4j", "WORKER_INIT_RUNTIME_DIR": str(tmp_path)}
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with (closing(app), running_program(
                [environment.python, "-m", "celery", "-A", "celery_app", "worker", "-c", "2"],
                cwd=tmp_path, env=inherited | settings, stdout=log, stderr=log)):
            eventually(lambda: app.control.ping(timeout=1, limit=1), LIMIT, what="the worker is ready")
            yield app


def test_a_task_is_served_by_a_shared_driver(worker: Any, neo4j_server: StartedNeo4j) -> None:
    label = f"Packaged{uuid.uuid4().hex}"
    auth = (neo4j_server.username, neo4j_server.password)
    with neo4j.GraphDatabase.driver(neo4j_server.uri, auth=auth) as driver:
        driver.execute_query("CREATE (:$($label))", label=label)
    task = worker.signature("celery_app.count_nodes")
    assert [task.delay(label).get(timeout=LIMIT) for _ in range(4)] == [1] * 4
    (stats,) = worker.control.inspect(timeout=5, limit=1).stats().values()
    leases = [slot["leases"] for slot in stats["neo4j"]["drivers"]]
    assert (len(leases), sum(leases)) == (2, 4)
