"""Short transactions per second: directly, through one driver host, and through two of them.

Each client sends `RETURN 1` as fast as it is answered, over its own connection, which is logged on before the clock
starts. The three ways take turns, in random order, for each number of clients, and all of that is repeated. Compare
figures of the same run with each other, not with those of another run.

A client is a few bytes of Bolt on an event loop and not the official driver, which would use twice the processor time
of a driver host. All clients share one process, so they use at most one core. The columns on the right show what was
busy, in cores: the clients' process, the driver hosts, and the whole machine including Neo4j. If the last one is about
the number of cores of the machine, they all share what there is, and another host cannot help.

Neo4j refuses a transaction if all running ones want more memory than dbms.memory.transaction.total.max allows. Such a
transaction is counted as refused and sent again, as a driver would do.

The hosts are those of a worker with 16 pool processes (--slots), among which the clients are divided evenly. Without
--uri, a Neo4j with a heap of 512 MB is started.
"""

import asyncio
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import product
from typing import Any, NamedTuple, cast

import psutil

from benchmarks.common import conditions, neo4j_of, parser, read_seconds, say, write
from rig.percentile import percentile
from testing.servers import Neo4jServer
from worker_init.arguments import real, whole
from worker_init.bolt import Scanner, Tag, message
from worker_init.event_loop import run
from worker_init.fleet import Fleet
from worker_init.handshake import MAGIC
from worker_init.settings import Settings
from worker_init.targets import upstreams_of

CLIENTS = (1, 4, 16, 64, 256)
_BOLT_5_8 = MAGIC + bytes((0, 0, 8, 5)) + bytes(12)
_TRANSACTION = (message(Tag.RUN, "RETURN 1", {}, {}), message(Tag.PULL, {"n": -1}))
# How much a Neo4j with a small heap has to do at once before the clock starts: logons, first transactions.
_AT_ONCE = 16
_WARM_UP = 5
_FIGURES = ("per_second", "p50_ms", "p99_ms", "refused", "client_cores", "host_cores", "machine_cores")


class Place(NamedTuple):
    """The address that a client connects to, and its credentials."""

    port: int
    username: str
    password: str


class Way(NamedTuple):
    """A way to Neo4j: a place for each slot, and the pids of the hosts on the way."""

    name: str
    places: list[Place]
    hosts: list[int]


class Client(asyncio.Protocol):
    """A client with its own connection.

    ``latencies`` are those of the transactions in its last ``work``, in seconds; ``refused`` counts those that Neo4j
    refused.
    """

    def __init__(self) -> None:
        self.latencies: list[float] = []
        self.refused = 0
        self._transport: asyncio.Transport
        self._scanner = Scanner(skip_records=True)
        self._is_agreed = False
        self._due = 0
        self._is_refused = False
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: send the version of Bolt."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(_BOLT_5_8)

    def data_received(self, data: bytes) -> None:
        """asyncio: count the answers."""
        if not self._is_agreed:
            self._is_agreed, agreed, data = True, data[:4], data[4:]
            if agreed != bytes((0, 0, 8, 5)):
                self._fail("the server does not speak Bolt 5.8")
        for piece in self._scanner.feed(data):
            if piece.tag == Tag.FAILURE:
                self._is_refused = True
                if b"Neo.TransientError" not in self._scanner.block:
                    self._fail(f"the server refuses: {self._scanner.block!r}")
            self._due -= piece.last
        if not self._due and self._done and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        """asyncio: nobody gets an answer any more."""
        self._fail("the connection is lost")

    def _fail(self, why: str) -> None:
        if self._done and not self._done.done():
            self._done.set_exception(RuntimeError(why))

    async def ask(self, *messages: bytes) -> None:
        """Send messages, and wait for all answers."""
        self._done, self._due = asyncio.get_running_loop().create_future(), len(messages)
        self._transport.write(b"".join(messages))
        await self._done

    async def transaction(self) -> bool:
        """Run one transaction. Return False if Neo4j has no room for it at the moment."""
        self._is_refused = False
        await self.ask(*_TRANSACTION)
        if self._is_refused:
            await self.ask(message(Tag.RESET))
        return not self._is_refused

    async def log_on(self, place: Place) -> None:
        """Log on, and run the first transactions."""
        await self.ask(message(Tag.HELLO, {"user_agent": "throughput/1", "bolt_agent": {"product": "throughput/1"}}),
                       message(Tag.LOGON, {"scheme": "basic", "principal": place.username,
                                           "credentials": place.password}))
        for _ in range(_WARM_UP):
            await self.transaction()

    async def work(self, seconds: float) -> None:
        """Run one transaction after the other for ``seconds`` seconds."""
        self.latencies, self.refused = [], 0
        ends_at = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends_at:
            if await self.transaction():
                self.latencies.append(time.perf_counter() - began)
            else:
                self.refused += 1

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()


async def connected(place: Place, room: asyncio.Semaphore) -> Client:
    """Return a client that is logged on; ``room`` limits how many log on at once."""
    async with room:
        _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", place.port)
        await client.log_on(place)
    return client


async def measured(way: Way, clients: int, seconds: float) -> dict[str, float]:
    """Return the figures of ``clients`` clients that work for ``seconds`` seconds."""
    room = asyncio.Semaphore(_AT_ONCE)
    running = await asyncio.gather(*(connected(way.places[number % len(way.places)], room)
                                     for number in range(clients)))
    before, began = busy_seconds(way), time.perf_counter()
    await asyncio.gather(*(client.work(seconds) for client in running))
    passed = time.perf_counter() - began
    busy = [round((after - earlier) / passed, 2) for after, earlier in zip(busy_seconds(way), before, strict=True)]
    for client in running:
        client.close()
    latencies = [1000 * latency for client in running for latency in client.latencies]
    return dict(zip(_FIGURES, (round(len(latencies) / passed, 1), round(percentile(latencies, 50), 3),
                               round(percentile(latencies, 99), 3), sum(client.refused for client in running), *busy),
                    strict=True))


def busy_seconds(way: Way) -> tuple[float, float, float]:
    """Return the processor time of this process, of a way's hosts and of the machine so far, in seconds."""
    machine = psutil.cpu_times()
    return time.process_time(), sum(map(read_seconds, way.hosts)), sum(machine) - machine.idle - machine.iowait


@contextmanager
def ways(server: Neo4jServer, slots: int) -> Iterator[list[Way]]:
    """Yield the three ways. Idle hosts use no processor time, so all of them run all the time."""
    direct = Way("direct", [Place(server.port, *server.auth)], [])
    with ExitStack() as stack:
        yield [direct, *(stack.enter_context(through_hosts(server, slots, hosts)) for hosts in (1, 2))]


@contextmanager
def through_hosts(server: Neo4jServer, slots: int, hosts: int) -> Iterator[Way]:
    """Run the hosts of a worker."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "NEO4J_URI": server.uri, "NEO4J_USERNAME": server.username,
                       "NEO4J_PASSWORD": server.password, "WORKER_INIT_RUNTIME_DIR": folder,
                       "WORKER_INIT_HOSTS": str(hosts), "WORKER_INIT_CONNECTION_IDS": ""}
        fleet = Fleet(Settings.from_environment(environment), upstreams_of(environment, ()), environment)
        try:
            if not fleet.start(slots):
                raise SystemExit(f"no driver host: {fleet.reason}")
            yield Way(f"{hosts} host{'s' * (hosts > 1)}",
                      [place_of(fleet.of(slot).environment(slot)) for slot in range(slots)],
                      [host["pid"] for host in fleet.status()["hosts"]])
        finally:
            fleet.stop()


def place_of(found: dict[str, str]) -> Place:
    """Return the place given by the variables of a task's environment."""
    return Place(int(found["NEO4J_WORKER_URI"].rsplit(":", 1)[1]), found["NEO4J_WORKER_USERNAME"],
                 found["NEO4J_WORKER_PASSWORD"])


async def rounds(all_ways: list[Way], numbers: list[int], times: int, seconds: float,
                 cases: dict[tuple[int, str], list[dict[str, float]]]) -> int:
    """Measure everything ``times`` times."""
    began, done, total = time.monotonic(), 0, times * len(numbers) * len(all_ways)
    for _, clients in product(range(times), numbers):
        for way in random.sample(all_ways, len(all_ways)):
            cases.setdefault((clients, way.name), []).append(await measured(way, clients, seconds))
            done += 1
            left = (time.monotonic() - began) / done * (total - done)
            say(f"{done} of {total}: {clients} clients, {way.name}; about {left:.0f} s left")
    return 0


def medians(tries: list[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the rounds."""
    return {figure: statistics.median(each[figure] for each in tries) for figure in _FIGURES}


def table(cases: list[dict[str, Any]]) -> str:
    """Return the result as a text table."""
    lines = [f"{'clients':>7} {'':8} {'per second':>10} {'p50 ms':>8} {'p99 ms':>8} {'refused':>8}   "
             f"busy cores: {'clients':>7} {'hosts':>5} {'machine':>7}"]
    lines += [f"{case['clients']:7} {case['way']:8} {case['per_second']:10.0f} {case['p50_ms']:8.2f} "
              f"{case['p99_ms']:8.2f} {case['refused']:8.0f}               {case['client_cores']:7.2f} "
              f"{case['host_cores']:5.2f} {case['machine_cores']:7.2f}" for case in cases]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, write the file."""
    options_of = parser(__doc__)
    options_of.add_argument("--clients", type=whole(1), nargs="+", default=CLIENTS, metavar="NUMBER",
                            help="numbers of clients to measure (default: 1 4 16 64 256)")
    options_of.add_argument("--rounds", type=whole(1), default=5,
                            help="how often all of it is repeated (default: %(default)s)")
    options_of.add_argument("--seconds", type=real(0.1), default=2.0,
                            help="how long the clients of one try work (default: %(default)s)")
    options_of.add_argument("--slots", type=whole(1), default=16,
                            help="pool processes of the worker (default: %(default)s)")
    options = options_of.parse_args(arguments)
    began = time.time()
    tries: dict[tuple[int, str], list[dict[str, float]]] = {}
    with neo4j_of(options) as server, ways(server, options.slots) as all_ways:
        run(rounds(all_ways, options.clients, options.rounds, options.seconds, tries))
        names = [way.name for way in all_ways]
    cases = [{"clients": clients, "way": way, **medians(tries[clients, way]), "rounds": tries[clients, way]}
             for clients, way in product(options.clients, names)]
    print(table(cases))
    write(options.out, {"conditions": conditions(began), "seconds": options.seconds, "slots": options.slots,
                        "cases": cases})
    return 0


if __name__ == "__main__":
    sys.exit(main())
