"""A DAG that asks for the shared driver in Python, once with a blocking and once with an async driver.

``worker_init.driver()`` returns an ordinary ``neo4j.Driver``. If there is no shared driver, it connects to
``NEO4J_URI`` by itself.
"""

import asyncio

import pendulum
from airflow.sdk import dag, task

import worker_init


@task
def write_person(name: str) -> str:
    """Make sure that a person exists, and return the name."""
    with worker_init.driver() as driver:
        driver.execute_query("MERGE (:Person {name: $name})", name=name, database_=worker_init.database())
    return name


@task
def read_people(names: list[str]) -> int:
    """Return how many of these people exist: three queries at once, on an async driver."""
    return sum(asyncio.run(_found(names)))


async def _found(names: list[str]) -> list[int]:
    async with worker_init.async_driver() as driver:
        async def one(name: str) -> int:
            result = await driver.execute_query("MATCH (p:Person {name: $name}) RETURN count(p) AS people", name=name,
                                                database_=worker_init.database())
            return int(result.records[0]["people"])
        return list(await asyncio.gather(*map(one, names)))


@dag(schedule=None, start_date=pendulum.datetime(2026, 1, 1, tz="UTC"), catchup=False, tags=["example"])
def example_taskflow() -> None:
    """Write three people, each in a task of its own; then read them."""
    read_people(write_person.expand(name=["Ada", "Grace", "Katherine"]))    # type: ignore[arg-type]    # an XComArg


example_taskflow()
