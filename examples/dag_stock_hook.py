"""A DAG that uses the stock hook. Nothing in it refers to the shared driver.

If the Celery worker loads ``worker_init.hooks``, the connection ``neo4j_default`` leads through the shared driver.
Otherwise, the hook connects by itself.
"""

import pendulum
from airflow.providers.neo4j.hooks.neo4j import Neo4jHook
from airflow.sdk import dag, task


@task
def count_nodes(label: str) -> int:
    """Return how many nodes have a label."""
    found = Neo4jHook().run("MATCH (n) WHERE $label IN labels(n) RETURN count(n) AS nodes", {"label": label})
    return int(found[0]["nodes"])


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), catchup=False, tags=["example"])
def example_stock_hook() -> None:
    """Count the nodes of three labels, each in a task of its own."""
    count_nodes.expand(label=["Person", "Film", "City"])


example_stock_hook()
