"""The clients that a task may use. Each asks the server for a nonce, and reports the address that it used."""

import asyncio
import os
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict
from urllib.parse import urlsplit

import worker_init

if TYPE_CHECKING:
    import neo4j

QUERY = "RETURN $nonce AS nonce"


class Answer(TypedDict):
    """What a client found: the address that it used, and whether that is the shared driver's."""

    client: str
    address: str
    through_worker: bool


class NotThroughTheWorkerError(RuntimeError):
    """The worker has a driver, and this client did not use it."""


class NotInstalledError(RuntimeError):
    """The client is not installed."""


def ask(client: str) -> Answer:
    """Ask for a nonce with this client.

    Raises NotThroughTheWorkerError if it did not use the shared driver although there is one, RuntimeError if it got
    another nonce, NotInstalledError if it is not installed. The client's own errors are passed on.
    """
    nonce = uuid.uuid4().hex
    found, address = CLIENTS[client](nonce)
    if found != nonce:
        raise RuntimeError(f"{client} asked for {nonce} and got {found!r}")
    own = urlsplit(os.environ.get("NEO4J_WORKER_URI", "")).netloc
    if own and address != own:
        raise NotThroughTheWorkerError(f"{client} talked to {address}, and the shared driver is at {own}")
    return Answer(client=client, address=address, through_worker=bool(own))


def _driver(nonce: str) -> tuple[str, str]:
    with worker_init.driver() as driver:
        return _ask(driver, nonce, worker_init.database())


def _async_driver(nonce: str) -> tuple[str, str]:
    async def ask_once() -> tuple[str, str]:
        async with worker_init.async_driver() as driver:
            records, summary, _ = await driver.execute_query(QUERY, nonce=nonce, database_=worker_init.database())
        return records[0]["nonce"], _address(summary)
    return asyncio.run(ask_once())


def _environment(nonce: str) -> tuple[str, str]:
    from neo4j import GraphDatabase  # noqa: PLC0415 - imports are part of a task, not of reading the DAG

    prefix = "NEO4J_WORKER_" if os.environ.get("NEO4J_WORKER_URI") else "NEO4J_"
    auth = (os.environ[f"{prefix}USERNAME"], os.environ[f"{prefix}PASSWORD"])
    with GraphDatabase.driver(os.environ[f"{prefix}URI"], auth=auth) as driver:
        return _ask(driver, nonce, os.environ.get("NEO4J_DATABASE"))


def _hook(nonce: str) -> tuple[str, str]:
    from airflow.providers.neo4j.hooks.neo4j import Neo4jHook  # noqa: PLC0415 - as above

    hook = Neo4jHook()
    rows = hook.run(QUERY, {"nonce": nonce})
    return rows[0]["nonce"], _ask(hook.get_conn(), nonce, None)[1]


def _neomodel(nonce: str) -> tuple[str, str]:
    try:
        from neomodel import db, get_config  # noqa: PLC0415 - as above
    except ImportError as error:
        raise NotInstalledError("neomodel is not installed here") from error
    get_config().driver = driver = worker_init.driver()
    rows, _ = db.cypher_query(QUERY, {"nonce": nonce})
    return rows[0][0], _ask(driver, nonce, None)[1]


def _ask(driver: "neo4j.Driver", nonce: str, database: str | None) -> tuple[str, str]:
    records, summary, _ = driver.execute_query(QUERY, nonce=nonce, database_=database)
    return records[0]["nonce"], _address(summary)


def _address(summary: "neo4j.ResultSummary") -> str:
    host, port = summary.server.address[:2]
    return f"{host}:{port}"


CLIENTS: dict[str, Callable[[str], tuple[str, str]]] = {
    "driver": _driver, "async_driver": _async_driver, "environment": _environment, "hook": _hook,
    "neomodel": _neomodel,
}
