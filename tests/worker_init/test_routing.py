"""An upstream that routes: each transaction reaches the member that its database and its user ask for."""

from pathlib import Path
from typing import Any

import neo4j
import pytest

from testing.servers import serving
from tests.worker_init.cluster import Cluster, cluster

pytestmark = pytest.mark.host

HOMES: dict[str | None, str] = {None: "sales", "alice": "stock", "bob": "staff"}


def member(driver: neo4j.Driver, database: str | None = None, user: str | None = None, **config: Any) -> Any:
    """Return the number of the member that a query reached."""
    return driver.execute_query("RETURN 1", database_=database, impersonated_user_=user, **config).records[0][0]


@pytest.fixture
def leaders() -> dict[str, int]:
    return {"sales": 0, "stock": 1, "staff": 2}


def through(running: Cluster) -> str:
    return f"neo4j://127.0.0.1:{running.ports[0]}"


def test_a_database_is_written_at_its_leader(leaders: dict[str, int], tmp_path: Path) -> None:
    with (cluster(HOMES, leaders, 3) as running, serving(tmp_path, through(running), ("neo4j", "x")) as host,
          host.driver() as driver):
        assert [member(driver, name) for name in ("sales", "stock", "staff", None)] == [0, 1, 2, 0]


def test_an_impersonated_user_has_a_home_database_of_its_own(leaders: dict[str, int], tmp_path: Path) -> None:
    with (cluster(HOMES, leaders, 3) as running, serving(tmp_path, through(running), ("neo4j", "x")) as host,
          host.driver() as driver):
        assert [member(driver, user=user) for user in (None, "alice", "bob", None, "alice")] == [0, 1, 2, 0, 1]
        asked = running.routed
        assert [member(driver, user=user) for user in ("alice", "bob", "alice")] == [1, 2, 1]
        assert running.routed == asked


def test_the_first_client_of_all_may_impersonate(leaders: dict[str, int], tmp_path: Path) -> None:
    with (cluster(HOMES, leaders, 3) as running, serving(tmp_path, through(running), ("neo4j", "x")) as host,
          host.driver() as driver):
        assert [member(driver, user="bob"), member(driver)] == [2, 0]


@pytest.mark.parametrize("user", [None, "alice"])
def test_a_new_leader_is_found(user: str | None, leaders: dict[str, int], tmp_path: Path) -> None:
    with (cluster(HOMES, leaders, 3) as running, serving(tmp_path, through(running), ("neo4j", "x")) as host,
          host.driver() as driver):
        before = member(driver, user=user)
        leaders[HOMES[user]] = 2
        assert (before, member(driver, user=user)) == (0 if user is None else 1, 2)
