"""The driver that a plain Celery task gets: one for the process, from task to task, until somebody closes it."""

import os
from collections.abc import Iterator

import neo4j
import pytest

from worker_init import database, driver
from worker_init.errors import BadSetting
from worker_init.tasks import close_process_driver, keep_process_driver


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make this process one that keeps its driver, which connects when it is used and not before."""
    monkeypatch.setenv("NEO4J_WORKER_URI", "bolt://127.0.0.1:1")
    keep_process_driver(os.getpid())
    yield
    close_process_driver()


def test_the_next_task_gets_the_same_driver() -> None:
    assert driver() is driver()


def test_a_driver_that_a_task_has_closed_is_not_given_to_the_next_one() -> None:
    first = driver()
    first.close()
    with driver() as second:
        assert second is not first
        assert driver() is second
    assert driver() is not second


def test_a_driver_of_earlier_days_does_not_take_the_present_one_with_it() -> None:
    first = driver()
    first.close()
    second = driver()
    first.close()
    assert driver() is second


def test_a_driver_with_options_of_its_own_is_nobody_elses() -> None:
    with driver(connection_timeout=1) as own:
        assert own is not driver()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Make this process a task's whose worker has no driver host."""
    close_process_driver()
    for name in ("NEO4J_WORKER_URI", "NEO4J_URI", "NEO4J_WORKER_DATABASE", "NEO4J_DATABASE",
                 "WORKER_INIT_CONNECTION_IDS", "AIRFLOW_CONN_NEO4J_DEFAULT"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def address_of(made: neo4j.Driver) -> str:
    address = made._pool.address
    return f"{address.host}:{address.port}"


def test_without_a_host_a_task_connects_by_its_airflow_connection(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("WORKER_INIT_DISABLED", "1")
    alone.setenv("AIRFLOW_CONN_NEO4J_DEFAULT", "neo4j://u:p@db:7690/sales")
    with driver() as own:
        assert address_of(own) == "db:7690"
    assert database() == "sales"


def test_it_is_the_first_listed_connection_that_can_be_read(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("WORKER_INIT_CONNECTION_IDS", "none,other,third")
    alone.setenv("AIRFLOW_CONN_OTHER", "neo4j://u:p@other")
    alone.setenv("AIRFLOW_CONN_THIRD", "neo4j://u:p@third/sales")
    with driver() as own:
        assert address_of(own) == "other:7687"
    assert database() is None


def test_an_address_of_its_own_comes_before_the_connection(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("AIRFLOW_CONN_NEO4J_DEFAULT", "neo4j://u:p@db/sales")
    alone.setenv("NEO4J_URI", "bolt://first")
    with driver() as own:
        assert address_of(own) == "first:7687"
    assert database() is None


def test_where_there_is_nothing_the_task_is_told_what_to_set_and_no_password(alone: pytest.MonkeyPatch) -> None:
    alone.setenv("AIRFLOW_CONN_NEO4J_DEFAULT", "postgres://u:hidden@db")
    with pytest.raises(BadSetting, match="set NEO4J_URI, or AIRFLOW_CONN_NEO4J_DEFAULT") as caught:
        driver()
    assert "hidden" not in str(caught.value)
