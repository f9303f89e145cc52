"""A plain Celery app whose tasks use the shared driver of their pool process.

``NEO4J_URI=… NEO4J_USERNAME=… NEO4J_PASSWORD=… celery -A examples.celery_app worker``
"""

import os
from typing import Any

from celery import Celery

import worker_init

app = Celery("example", broker=os.environ.get("CELERY_BROKER_URL", "redis://127.0.0.1:6379/0"))
app.conf.imports = ["worker_init.hooks"]


@app.task
def count_nodes(label: str) -> Any:
    """Query with the driver of this process; the next task finds it open."""
    query = "MATCH (n:$($label)) RETURN count(n) AS nodes"
    result = worker_init.driver().execute_query(query, label=label, database_=worker_init.database())
    return result.records[0]["nodes"]
