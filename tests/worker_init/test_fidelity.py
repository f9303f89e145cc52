"""Everything that a driver can do is the same directly and through the relay."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import neo4j
import pytest

from testing.queries import ENDLESS
from testing.servers import Neo4jServer, Serving, serving
from tests.worker_init.faults import tls_hop
from tests.worker_init.probes import PROBES, Probe, Way, caught, databases
from worker_init.control import find_folders, read_status

pytestmark = pytest.mark.neo4j


@pytest.fixture
def direct_way(server: Neo4jServer, direct: neo4j.Driver) -> Way:
    return Way(server.uri, server.auth, direct)


@pytest.fixture(params=["local credentials", "upstream credentials"])
def relayed_way(request: pytest.FixtureRequest, server: Neo4jServer, host: Serving) -> Any:
    auth = host.auth if request.param == "local credentials" else server.auth
    with host.driver(auth=auth) as driver:
        yield Way(host.uri, auth, driver)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.__name__)
def test_the_sync_driver_sees_no_difference(probe: Probe, direct_way: Way, relayed_way: Way) -> None:
    assert probe(relayed_way) == probe(direct_way)


@pytest.fixture(scope="module", params=["bolt+ssc", "neo4j", "without uvloop"])
def other_host(request: pytest.FixtureRequest, server: Neo4jServer,
               tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Run a host whose driver speaks TLS to the server, one whose driver routes, one on asyncio's own loop."""
    folder = tmp_path_factory.mktemp("other")
    with contextlib.ExitStack() as stack:
        if request.param == "bolt+ssc":
            uri = f"bolt+ssc://127.0.0.1:{stack.enter_context(tls_hop(folder, server.port))}"
        elif request.param == "neo4j":
            uri = f"neo4j://127.0.0.1:{server.port}"
        else:
            uri = server.uri
            hide_uvloop(folder, stack)
        yield stack.enter_context(serving(folder, uri, server.auth))


def hide_uvloop(folder: Path, stack: contextlib.ExitStack) -> None:
    """Let processes that are started from now on find no uvloop."""
    (folder / "uvloop.py").write_text("raise ImportError('hidden by a test')\n")
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setenv("PYTHONPATH", str(folder))


def test_uvloop_is_used_where_it_is_installed(host: Serving, folder: Path, server: Neo4jServer) -> None:
    with contextlib.ExitStack() as stack:
        hide_uvloop(folder, stack)
        other = stack.enter_context(serving(folder, server.uri, server.auth))
        loops = [read_status(find_folders(running.folder)[0], 5.0)["event_loop"] for running in (host, other)]
    assert loops == ["uvloop", "asyncio.unix_events"]


@pytest.mark.parametrize("probe", [probe for probe in PROBES if probe is not databases],
                         ids=lambda probe: probe.__name__)
def test_other_hosts_make_no_difference(probe: Probe, direct_way: Way, other_host: Serving) -> None:
    """All but one: where a database is missing, a driver that routes learns so from another message."""
    with other_host.driver() as driver:
        assert probe(Way(other_host.uri, other_host.auth, driver)) == probe(direct_way)


async def concurrent_results(driver: neo4j.AsyncDriver) -> Any:
    async def one(number: int) -> int:
        async with driver.session() as session:
            result = await session.run("UNWIND range(1,2000) AS x RETURN x+$i AS y", i=number)
            return sum([record["y"] async for record in result])
    return await asyncio.gather(*(one(number) for number in range(12)))


async def a_managed_write(driver: neo4j.AsyncDriver) -> Any:
    async def work(tx: neo4j.AsyncManagedTransaction) -> Any:
        return await (await tx.run("CREATE (n:AA) RETURN 1 AS one")).data()
    async with driver.session() as session:
        return await session.execute_write(work)


async def a_cancelled_query(driver: neo4j.AsyncDriver) -> Any:
    async def slow() -> None:
        async with driver.session() as session:
            await (await session.run(ENDLESS)).consume()
    task = asyncio.ensure_future(slow())
    done, _ = await asyncio.wait([task], timeout=0.3)
    task.cancel()
    ended = await asyncio.gather(task, return_exceptions=True)
    records = (await driver.execute_query("RETURN 5 AS x")).records
    return len(done), type(ended[0]).__name__, records[0]["x"]


async def an_abandoned_result(driver: neo4j.AsyncDriver) -> Any:
    async with driver.session(fetch_size=10) as session:
        result = await session.run("UNWIND range(1,100000) AS x RETURN x")
        await anext(result)
    return (await driver.execute_query("RETURN 6 AS x")).records[0]["x"]


async def an_error(driver: neo4j.AsyncDriver) -> Any:
    try:
        await driver.execute_query("RETURN 1/0")
    except neo4j.exceptions.Neo4jError as error:
        found = error
        return caught(lambda: (_ for _ in ()).throw(found))


ASYNC_PROBES = [concurrent_results, a_managed_write, a_cancelled_query, an_abandoned_result, an_error]


@pytest.mark.parametrize("probe", ASYNC_PROBES, ids=lambda probe: probe.__name__)
def test_the_async_driver_sees_no_difference(
        probe: Callable[[neo4j.AsyncDriver], Awaitable[Any]], server: Neo4jServer, host: Serving) -> None:
    async def seen(uri: str, auth: tuple[str, str]) -> Any:
        async with neo4j.AsyncGraphDatabase.driver(uri, auth=auth) as driver:
            return await probe(driver)
    assert asyncio.run(seen(host.uri, host.auth)) == asyncio.run(seen(server.uri, server.auth))
