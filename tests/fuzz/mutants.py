"""A deliberate bug in each row of the relay's tables, and how soon the tests find it: ``python -m tests.fuzz.mutants``.

In each row one thing that is done is left out, or, where nothing is done, another state follows; with ``--all`` both,
and each thing that is done. A mutant lives in a forked process, where first random lives are tried and then the tests.
"""

import argparse
import contextlib
import io
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from tests.worker_init.pure.relay_life import Life
from worker_init import client, client_table, pool_states, server_state
from worker_init.client_table import Event, Row, State

PURE = Path(__file__).resolve().parents[1] / "worker_init" / "pure"
# These look at the table itself; what counts is what it does.
_TABLE_TESTS = ("--deselect=test_client_table.py", "--deselect=test_pool_tables.py")
_LIVES_SECONDS = 10.0
_LIMIT = 60.0
_FOUND_BY = {0: "survived", 10: "random lives", 11: "tests", 12: "at once"}


class Mutant(NamedTuple):
    """A bug, and how to put it in."""

    table: str
    row: str
    what: str
    apply: Callable[[], None]


def another(state: Any) -> Any:
    """Return another state of the same kind: the next one."""
    kind: Any = type(state)
    states = [*kind]
    return states[(states.index(state) + 1) % len(states)]


def _client_mutants(*, every: bool) -> Iterator[Mutant]:
    for state, rows in client_table.TABLE.items():
        for event, row in rows.items():
            name = f"{state.name} {event.name}"
            changes = [(f"without {do.name}", row._replace(do=row.do[:at] + row.do[at + 1:]))
                       for at, do in enumerate(row.do)]
            if not changes or every:
                changes.append((f"to {another(row.to).name}", row._replace(to=another(row.to))))
            for what, changed in changes if every else changes[-1:]:
                yield Mutant("client", name, what, partial(_set_client, state, event, changed))


def _set_client(state: State, event: Event, row: Row) -> None:
    client_table.TABLE[state][event] = row
    client._COMPILED[:] = client._compiled()


def _pool_mutants() -> Iterator[Mutant]:
    tables: dict[str, dict[Any, dict[Any, Any]]] = {
        "connection": cast("Any", pool_states.CONNECTION_TABLE), "waiter": cast("Any", pool_states.WAITER_TABLE),
        "pool": cast("Any", pool_states.POOL_TABLE)}
    for name, table in tables.items():
        for state, rows in table.items():
            for event, after in rows.items():
                yield Mutant(name, f"{state.name} {event.name}", f"to {another(after).name}",
                             partial(rows.__setitem__, event, another(after)))


def _server_mutants() -> Iterator[Mutant]:
    for (state, request, answer), after in server_state.SERVER_TABLE.items():
        key = (int(state), int(request), int(answer))
        yield Mutant("server", f"{state.name} {request.name} {answer.name}", f"to {another(after).name}",
                     partial(server_state._COMPILED.__setitem__, key, another(after)))


def find(mutant: Mutant, seed: int) -> tuple[str, float]:
    """Return what found a mutant, and after how many seconds."""
    start = time.monotonic()
    child = os.fork()
    if not child:
        os._exit(_live_with(mutant, seed))
    while time.monotonic() - start < _LIMIT:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return _FOUND_BY.get(os.waitstatus_to_exitcode(status), "a crash"), time.monotonic() - start
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "a hang", time.monotonic() - start


def _live_with(mutant: Mutant, seed: int) -> int:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            mutant.apply()
        except Exception:
            return 12
        start = time.monotonic()
        while time.monotonic() - start < _LIVES_SECONDS:
            seed += 1
            try:
                Life(random.Random(seed)).live(200)
            except Exception:
                return 10
        os.chdir(PURE)
        failed = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--confcutdir={PURE}",
                              *_TABLE_TESTS, "test_client.py", "test_server_state.py", "test_pool_machine.py",
                              "test_pool_random.py"])
    return 11 if failed else 0


def main() -> int:
    """Print each row that no test minds, and the figures; exit code 1 if there was such a row."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.mutants", description=(
        "A deliberate bug in each row of the relay's tables: do the tests find it, and how soon?"))
    parser.add_argument("--all", action="store_true",
                        help="all that can be left out of a row, and another state after it")
    parser.add_argument("--only", default="", help="rows whose table or name contains this")
    parser.add_argument("--seed", type=int, default=1, help="where the random lives begin (default: 1)")
    parser.add_argument("--sample", type=int, default=10**6,
                        help="so many of the rows, drawn by the seed (default: all)")
    arguments = parser.parse_args()
    mutants = [*_client_mutants(every=arguments.all), *_pool_mutants(), *_server_mutants()]
    mutants = [each for each in mutants if arguments.only in f"{each.table} {each.row}"]
    mutants = random.Random(arguments.seed).sample(mutants, min(arguments.sample, len(mutants)))
    found: Counter[tuple[str, str]] = Counter()
    seconds: list[float] = []
    for mutant in mutants:
        by, took = find(mutant, arguments.seed)
        found[mutant.table, by] += 1
        seconds.append(took)
        if by == "survived":
            print(f"survived: {mutant.table}, {mutant.row}, {mutant.what}", flush=True)
    median = sorted(seconds)[len(seconds) // 2]
    print(f"{len(mutants)} mutants; {median:.1f} s each (median), {max(seconds):.0f} s at most")
    for (table, by), count in sorted(found.items()):
        print(f"{table:12} {by:14} {count:5}")
    return 1 if any(by == "survived" for _, by in found) else 0


if __name__ == "__main__":
    sys.exit(main())
