"""What the benchmarks have in common: servers, options, progress, and a file with the result."""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import neo4j
import psutil

from benchmarks.sigterm import end_on_sigterm
from rig.errors import BadInput, RigError
from rig.stack import neo4j as neo4j_service
from rig.stack import ports
from rig.whole_file import write_whole
from testing.neo4j_server import StartedNeo4j
from testing.servers import Neo4jServer, redis_server


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--uri", help="address of a running Neo4j, with its password in NEO4J_PASSWORD; without it, one "
                                    "is started")
    made.add_argument("--user", default="neo4j", help="the user who logs on (default: %(default)s)")
    made.add_argument("--out", type=Path, help="file for the result, as JSON")
    return made


@contextmanager
def neo4j_of(options: argparse.Namespace) -> Iterator[Neo4jServer]:
    """Yield the server that the options name, or one that ends with the benchmark.

    If the named server cannot be used, the program ends with one line and the exit code of the error.
    """
    if options.uri:
        with errors_in_one_line():
            named = _named(options.uri, options.user)
        yield named
        return
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as folder:
        started = StartedNeo4j(Path(folder), ports.choose(0, variable="a benchmark"), "of-a-benchmark")
        say("starting a Neo4j …")
        try:
            with errors_in_one_line():
                started.start()
            yield Neo4jServer(started.uri, started.username, started.password)
        finally:
            started.stop()


def _named(uri: str, user: str) -> Neo4jServer:
    if "NEO4J_PASSWORD" not in os.environ:
        raise BadInput("NEO4J_PASSWORD is not set", "it is the password of --user at --uri")
    server = Neo4jServer(uri, user, os.environ["NEO4J_PASSWORD"])
    try:
        neo4j_service.require(uri, user, server.password, "neo4j")
    except BadInput as error:       # its remedy is that of the rig's settings
        raise BadInput(error.what, "check --uri, --user and NEO4J_PASSWORD; without --uri a Neo4j is started") from None
    return server


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """End the program with a single line after an error that the user can understand."""
    try:
        yield
    except RigError as error:
        say(str(error))
        raise SystemExit(error.exit_code) from None


@contextmanager
def neo4j_and_redis(options: argparse.Namespace) -> Iterator[tuple[Neo4jServer, str, Path]]:
    """Yield a server, the URL of a Redis and a folder for files."""
    with ExitStack() as stack:
        server = stack.enter_context(neo4j_of(options))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield server, stack.enter_context(redis_server(folder)), folder


def say(what: str) -> None:
    """Report progress to standard error; only the result goes to standard output."""
    print(what, file=sys.stderr, flush=True)


def conditions(began: float) -> dict[str, Any]:
    """Return the circumstances of a measurement; ``began`` is the time.time() of its start."""
    return {"command": [Path(sys.argv[0]).name, *sys.argv[1:]], "began": time.strftime("%FT%TZ", time.gmtime(began)),
            "seconds": round(time.time() - began, 1), "cores": psutil.cpu_count(),
            "load_average": [round(load, 2) for load in psutil.getloadavg()], "python": platform.python_version(),
            "neo4j_driver": neo4j.__version__}


def write(out: Path | None, result: dict[str, Any]) -> None:
    """Write the result to the file that the options name, if any."""
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, json.dumps(result, indent=2) + "\n")


def read_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in seconds."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def read_pss(pid: int) -> float:
    """Return a process's proportional share of memory, in megabytes."""
    rollup = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(rollup["Pss"].split()[0]) / 1024
