"""Clients killed with ``kill -9`` in a transaction, a paused stream, a full stream and a long query.

For each client it measures how long it takes until the server no longer has its transaction, and until the connection
is free again. It checks whether anything that the client wrote has stayed, and whether the next client is served.
Asking the server takes some milliseconds, which are part of the figures.

Each of them alternates with a client that is connected directly to the server, without the relay. This shows how fast
Neo4j notices a client's death at best. For clients over the limit, it also reports how long Neo4j's JVM was stopped
meanwhile for garbage collection: Neo4j keeps a result that its client does not read.
"""

import multiprocessing
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import neo4j

from benchmarks.common import conditions, neo4j_of, parser, say, write
from testing.queries import ENDLESS, FILLER, ROWS
from testing.servers import Neo4jServer, Serving, serving
from worker_init.arguments import real, whole
from worker_init.control import find_folders, read_status

_MODES = ("transaction", "paused stream", "full stream", "long query")
_MOST_SECONDS = 30.0
# From the JVM's own beans, https://docs.oracle.com/en/java/javase/21/docs/api/java.management/java/lang/management/
# GarbageCollectorMXBean.html#getCollectionTime(): milliseconds since its start, of all its collectors.
_COLLECTED = ("CALL dbms.queryJmx('java.lang:type=GarbageCollector,*') YIELD attributes "
              "RETURN sum(attributes.CollectionTime.value)")
_OF_THE_VICTIM = "SHOW TRANSACTIONS YIELD metaData WHERE metaData.victim = $number RETURN count(*)"


def victim(uri: str, auth: tuple[str, str], mode: str, number: int, ready: Connection) -> None:
    """Act as a client in the middle of something, until killed."""
    metadata = {"victim": number}
    session = neo4j.GraphDatabase.driver(uri, auth=auth).session(fetch_size=-1 if mode == "full stream" else 100)
    if mode == "long query":
        ready.send(mode)
        session.run(neo4j.Query(ENDLESS, metadata=metadata)).consume()
    elif mode == "transaction":
        tx = session.begin_transaction(metadata=metadata)
        tx.run("CREATE (:Killed)").consume()
    else:
        result = session.run(neo4j.Query(ROWS, metadata=metadata), filler=FILLER)
        for _ in range(50):
            next(result)
    ready.send(mode)
    signal.pause()


def seconds_until(check: Callable[[], bool], since: float) -> float | None:
    """Return how many seconds after ``since`` the check became true; None if it never did."""
    while not check():
        if time.monotonic() - since > _MOST_SECONDS:
            return None
    return time.monotonic() - since


def kill_one(host: Serving, direct: neo4j.Driver, via: Serving | Neo4jServer, mode: str, number: int) -> dict[str, Any]:
    """Start a client of the relay or of the server itself, kill it, and return the measurements."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    client = context.Process(target=victim, args=(via.uri, via.auth, mode, number, theirs))

    def value(query: str) -> int:
        found: int = direct.execute_query(query, number=number).records[0][0]
        return found

    def connections_in_use() -> int:
        status = read_status(find_folders(host.folder)[0], 5.0)
        found: int = status["drivers"][0]["connections"]["in_use"]
        return found

    client.start()
    ours.recv()
    seconds_until(lambda: value(_OF_THE_VICTIM) == 1, time.monotonic())
    collected = value(_COLLECTED)
    client.kill()
    killed = time.monotonic()
    gone = seconds_until(lambda: value(_OF_THE_VICTIM) == 0, killed)
    free = seconds_until(lambda: connections_in_use() == 0, killed)
    client.join()
    collected = value(_COLLECTED) - collected
    with host.driver() as driver:
        next_served = driver.execute_query("RETURN 7").records[0][0] == 7
    return {"mode": mode, "via": "relay" if via is host else "direct", "transaction_gone_ms": ms(gone),
            "connection_free_ms": ms(free), "next_served": next_served, "collected_ms": collected}


def ms(seconds: float | None) -> float | None:
    """Return milliseconds; None for something that never came."""
    return None if seconds is None else round(seconds * 1000, 2)


def summary(cases: list[dict[str, Any]], limit: float) -> dict[str, Any]:
    """Return the figures of one mode; ``limit`` in milliseconds."""
    times = sorted(case["transaction_gone_ms"] for case in cases if case["transaction_gone_ms"] is not None)
    return {"times": len(cases), "median_ms": statistics.median(times), "p99_ms": times[int(len(times) * 0.99)],
            "longest_ms": times[-1], "over_the_limit": sum(time_ > limit for time_ in times),
            "over_it_without_collections": sum(
                case["transaction_gone_ms"] - case["collected_ms"] > limit
                for case in cases if case["transaction_gone_ms"] is not None),
            "never_gone": len(cases) - len(times),
            "connection_never_free": sum(case["connection_free_ms"] is None for case in cases),
            "next_not_served": sum(not case["next_served"] for case in cases)}


def main(arguments: list[str] | None = None) -> int:
    """Run, print a table, write the file. The exit code is 1 if anything was left behind."""
    options_of = parser(__doc__)
    options_of.add_argument("--times", type=whole(1), default=1000, help="clients of the relay, a quarter of each kind")
    options_of.add_argument("--limit", type=real(1), default=100.0,
                            help="what a client's end may take at most, in milliseconds (default: %(default)s)")
    options = options_of.parse_args(arguments)
    began, cases = time.time(), []
    multiprocessing.get_context("forkserver").set_forkserver_preload(["neo4j"])
    with (neo4j_of(options) as server, tempfile.TemporaryDirectory() as folder,
          serving(Path(folder), server.uri, server.auth) as host, server.driver() as direct):
        for number in range(options.times):
            both: list[Serving | Neo4jServer] = random.sample([host, server], 2)
            mode = _MODES[number % len(_MODES)]
            cases.extend([kill_one(host, direct, via, mode, number) for via in both])
            if (number + 1) % 50 == 0:
                say(f"{number + 1} of {options.times}")
        left = direct.execute_query("MATCH (n:Killed) RETURN count(n)").records[0][0]
    kinds = [(kind, way) for kind in _MODES for way in ("relay", "direct")]
    modes = {kind: summary([case for case in cases if (case["mode"], case["via"]) == kind], options.limit)
             for kind in kinds}
    for (what, way), figures in modes.items():
        print(f"{what:13} {way:6} " + ", ".join(f"{name} {value:g}" for name, value in figures.items()))
    is_clean = left == 0 and not any(
        figures["never_gone"] or figures["connection_never_free"] or figures["next_not_served"]
        for figures in modes.values())
    print(f"nodes left: {left}; {'nothing was left behind' if is_clean else 'SOMETHING WAS LEFT BEHIND'}")
    write(options.out, {"conditions": conditions(began), "limit_ms": options.limit,
                        "modes": {f"{what}, {way}": figures for (what, way), figures in modes.items()},
                        "nodes_left": left, "clean": is_clean, "cases": cases})
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
