"""The relay's own share of its cost: RETURN 1 with a kept driver directly, through a copier and through hosts.

They take turns. A copier only passes bytes on, on the same event loop as a host: a relay cannot cost less. ``--tree``
adds a host of another checkout of this project, so that two versions can be compared in one run. ``host`` is the
processor time of one try in milliseconds, of the copier or the host, from the kernel's count in nanoseconds. Ratios are
those of ``python -m benchmarks.relay``: medians of the ratios of short blocks.
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, cast
from unittest.mock import patch

import neo4j

from benchmarks.common import conditions, neo4j_of, parser, say, write
from benchmarks.relay import one
from rig.percentile import percentile
from testing.servers import Neo4jServer, serving
from worker_init.arguments import whole
from worker_init.event_loop import run

_BLOCK = 30
_WARM_UP = 60


class Way(NamedTuple):
    """A driver, and the process behind it; None for the direct way."""

    driver: neo4j.Driver
    pid: int | None


class _Far(asyncio.Protocol):
    """The copier's connection to the server."""

    def __init__(self, near: "_Near") -> None:
        self._near = near

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._near.far = cast("asyncio.Transport", transport)
        self._near.far.write(self._near.early)

    def data_received(self, data: bytes) -> None:
        self._near.transport.write(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._near.transport.close()


class _Near(asyncio.Protocol):
    """The copier's connection to a client. ``early`` is what arrived before the connection to the server was open."""

    transport: asyncio.Transport

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self.far: asyncio.Transport | None = None
        self.early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._connecting = loop.create_task(
            loop.create_connection(lambda: _Far(self), "127.0.0.1", self._target_port))

    def data_received(self, data: bytes) -> None:
        if self.far:
            self.far.write(data)
        else:
            self.early += data

    def connection_lost(self, _: Exception | None) -> None:
        if self.far:
            self.far.close()


async def copy(target_port: int) -> int:
    """Pass bytes on to a port until the process is ended; first print the port that this listens on."""
    server = await asyncio.get_running_loop().create_server(lambda: _Near(target_port), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
    return 0


@contextmanager
def copier(server: Neo4jServer) -> Iterator[Way]:
    """Run a copier in front of a server."""
    command = [sys.executable, "-m", "benchmarks.relay_share", "--copy", str(server.port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            port = int(cast("IO[str]", process.stdout).readline())
            with server._replace(uri=f"bolt://127.0.0.1:{port}").driver() as driver:
                yield Way(driver, process.pid)
        finally:
            process.terminate()


@contextmanager
def host(server: Neo4jServer, folder: Path, tree: str) -> Iterator[Way]:
    """Run a driver host of a checkout in front of a server."""
    with (patch.dict(os.environ, PYTHONPATH=tree), serving(folder, server.uri, server.auth) as running,
          running.driver() as driver):
        yield Way(driver, running.process.pid)


def worked(pid: int | None) -> float:
    """Return the processor time that a process has used, in milliseconds, including all its threads."""
    if pid is None:
        return 0.0
    counts = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(count.read_text().split()[0]) for count in counts) / 1e6


def timed(work: Callable[[], object]) -> float:
    """Return how many milliseconds the work takes."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def measure(ways: dict[str, Way], blocks: int) -> list[dict[str, Any]]:
    """Return a case for each way: its median, its ratio to the direct way with quartiles, and processor time."""
    for way in ways.values():
        for _ in range(_WARM_UP):
            one(way.driver)
    times: dict[str, list[list[float]]] = {name: [] for name in ways}
    began = {name: worked(way.pid) for name, way in ways.items()}
    for _ in range(blocks):
        block: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(_BLOCK):
            for name in random.sample([*ways], len(ways)):
                block[name].append(timed(lambda driver=ways[name].driver: one(driver)))  # type: ignore[misc]
        for name, found in block.items():
            times[name].append(found)
    tries = blocks * _BLOCK
    return [{"name": name, "tries": tries, "median_ms": round(statistics.median(chain(*times[name])), 3),
             "ratio": [round(percentile(ratios, percent), 3) for percent in (25, 50, 75)],
             "host_ms": round((worked(way.pid) - began[name]) / tries, 4)}
            for name, way in ways.items() if (ratios := _ratios(times[name], times["direct"]))]


def _ratios(blocks: list[list[float]], direct: list[list[float]]) -> list[float]:
    return [statistics.median(mine) / statistics.median(other) for mine, other in zip(blocks, direct, strict=True)]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a line for each way, write the file."""
    options_of = parser(__doc__)
    options_of.add_argument("--blocks", type=whole(1), default=50,
                            help=f"blocks, each with {_BLOCK} tries of each way (default: 50)")
    options_of.add_argument("--tree", action="append", default=[], help="the folder of another checkout; repeatable")
    options_of.add_argument("--copy", type=int, help=argparse.SUPPRESS)
    options = options_of.parse_args(arguments)
    if options.copy:
        return run(copy(options.copy))
    began = time.time()
    trees = {"this checkout": str(Path(__file__).resolve().parents[1]), **{tree: tree for tree in options.tree}}
    with ExitStack() as stack, neo4j_of(options) as server:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ways = {"direct": Way(stack.enter_context(server.driver()), None),
                "copier": stack.enter_context(copier(server))}
        for number, (name, tree) in enumerate(trees.items()):
            ways[name] = stack.enter_context(host(server, folder / str(number), tree))
        say(f"{options.blocks} blocks …")
        cases = measure(ways, options.blocks)
        stack.close()
    for case in cases:
        low, ratio, high = case["ratio"]
        print(f"{case['name']:30} {case['median_ms']:8.3f} ms {ratio:7.3f} ({low:.3f} to {high:.3f}) "
              f"{case['host_ms']:8.3f} ms")
    write(options.out, {"conditions": conditions(began), "cases": cases})
    return 0


if __name__ == "__main__":
    sys.exit(main())
