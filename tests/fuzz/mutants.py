"""A deliberate bug in each row of the machines' tables; do the tests find it? ``python -m tests.fuzz.mutants``.

In each row one thing that is done is left out, or, where nothing is done, another state follows; with ``--all`` both,
and each thing that is done. The tests are collected once. Each mutant lives in a process of its own, forked from there,
where the tests of its machine run first, then random lives. Tests that look at the table itself do not run: what
counts is what it does. A row that no test can mind is in ``EXPLAINED``, with the reason.
"""

import argparse
import os
import random
import re
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from _pytest.runner import runtestprotocol

from tests.worker_init.pure.relay_life import Life
from worker_init import client, client_table, host_life, pool_states, server_state
from worker_init.arguments import real

_TESTS = Path(__file__).resolve().parents[1] / "worker_init"
_LIVES = "random lives"
_POOL = ("pure/test_pool_machine.py", "pure/test_pool_random.py", _LIVES, "pure/test_relay_life.py")
# What looks for the bugs of each table, in this order.
_FINDERS = {
    "client": ("pure/test_client.py", _LIVES, "pure/test_relay_life.py"),
    "connection": _POOL, "waiter": _POOL, "pool": _POOL,
    "server": ("pure/test_server_state.py", "pure/test_client.py", _LIVES),
    "host life": ("test_host_life.py",)}
# These read a table, and would tell any change of it.
_TABLE_TESTS = ("test_no_pair_of_state_and_event_has_two_rows", "test_the_page_about_the_relay_shows_the_table")
# Processor time that is left to a mutant.
_LIMIT_SECONDS = 60
_SURVIVED, _AT_ONCE, _BY_LIVES, _BY_TESTS = range(10, 14)
_FOUND_BY = {_SURVIVED: "survived", _BY_LIVES: _LIVES, _BY_TESTS: "tests", _AT_ONCE: "at once",
             -signal.SIGXCPU: "a hang", -signal.SIGKILL: "a hang"}



def another(state: Any) -> Any:
    """Return another state of the same kind: the next one."""
    kind: Any = type(state)
    states = [*kind]
    return states[(states.index(state) + 1) % len(states)]


# Table, row and bug: why it cannot be told from the package as it is.
EXPLAINED = {
    ("waiter", f"{state.name} {event.name}", f"to {another(after).name}"):
        "a borrower that is served, refused or gone is in no lane any more: nobody looks at its state again"
    for state, rows in pool_states.WAITER_TABLE.items() for event, after in rows.items()
    if not pool_states.WAITER_TABLE[after]} | {
    ("pool", f"CLOSED {event}", "to NEW"):
        "a pool that closes gives up every attempt to connect: no outcome of one is told to it any more"
    for event in ("CONNECTED", "UNREACHABLE")}


class Mutant(NamedTuple):
    """A bug, and how to put it in."""

    table: str
    row: str
    what: str
    apply: Callable[[], None]

    @property
    def why(self) -> str | None:
        """Why it cannot be told from the package as it is; None: it can."""
        return EXPLAINED.get((self.table, self.row, self.what))


class Found(NamedTuple):
    """What has found a mutant, and after how many seconds of processor time."""

    by: str
    seconds: float


def _changes(row: Any, *, every: bool) -> list[tuple[str, Any]]:
    """Return what can be changed in a row of what is done and the state after it."""
    do, to = row
    changes = [(f"without {each.name}", (do[:at] + do[at + 1:], to)) for at, each in enumerate(do)]
    if every:
        return [*changes, (f"to {another(to).name}", (do, another(to)))]
    return changes[-1:] or [(f"to {another(to).name}", (do, another(to)))]


def _client_mutants(*, every: bool) -> Iterator[Mutant]:
    for state, rows in client_table.TABLE.items():
        for event, row in rows.items():
            for what, changed in _changes(row, every=every):
                yield Mutant("client", f"{state.name} {event.name}", what,
                             partial(_set_client, rows, event, client_table.Row(*changed)))


def _set_client(rows: dict[client_table.Event, client_table.Row], event: client_table.Event,
                row: client_table.Row) -> None:
    rows[event] = row
    client._COMPILED[:] = client._compiled()


def _host_life_mutants(*, every: bool) -> Iterator[Mutant]:
    for (state, event), (then, actions) in host_life._NEXT.items():
        for what, (do, to) in _changes((actions, then), every=every):
            yield Mutant("host life", f"{state.name} {event.name}", what,
                         partial(host_life._NEXT.__setitem__, (state, event), (to, do)))


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
        key = server_state.key_of(state, request, answer)
        yield Mutant("server", f"{state.name} {request.name} {answer.name}", f"to {another(after).name}",
                     partial(server_state._COMPILED.__setitem__, key, another(after)))


def mutants(*, every: bool) -> list[Mutant]:
    """Return a mutant for each row; with ``every`` all of them."""
    return [*_client_mutants(every=every), *_pool_mutants(), *_server_mutants(), *_host_life_mutants(every=every)]


class Run:
    """A plugin of pytest's: instead of the tests that were collected it runs the mutants, each against the tests."""

    def __init__(self, mutants: list[Mutant], seed: int, lives_seconds: float) -> None:
        self.mutants = mutants
        self.found: list[tuple[Mutant, Found]] = []
        self._seed = seed
        self._lives_seconds = lives_seconds
        self._tests: dict[str, list[pytest.Item]] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Take the place of pytest's loop over the tests."""
        for item in session.items:
            if item.name not in _TABLE_TESTS:
                self._tests.setdefault(str(item.path.relative_to(_TESTS)), []).append(item)
        for mutant in self.mutants:
            found = self._find(mutant)
            self.found.append((mutant, found))
            if found.by == "survived" and not mutant.why:
                print(f"survived: {mutant.table}, {mutant.row}, {mutant.what}", flush=True)
            elif found.by != "survived" and mutant.why:
                print(f"found by {found.by}, though it was explained: {mutant.table}, {mutant.row}, {mutant.what}",
                      flush=True)
        return True

    def _find(self, mutant: Mutant) -> Found:
        child = os.fork()
        if not child:
            self._live_with(mutant)
        _, status, used = os.wait4(child, 0)
        code = os.waitstatus_to_exitcode(status)
        return Found(_FOUND_BY.get(code, f"a crash ({code})"), used.ru_utime + used.ru_stime)

    def _live_with(self, mutant: Mutant) -> None:
        """Look for a mutant in this process, and end it."""
        resource.setrlimit(resource.RLIMIT_CPU, (_LIMIT_SECONDS, _LIMIT_SECONDS + 5))
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        try:
            mutant.apply()
        except Exception:
            os._exit(_AT_ONCE)
        for finder in _FINDERS[mutant.table]:
            if finder == _LIVES and not self._lives_end_well():
                os._exit(_BY_LIVES)
            if finder != _LIVES and not _all_pass(self._tests[finder]):
                os._exit(_BY_TESTS)
        os._exit(_SURVIVED)

    def _lives_end_well(self) -> bool:
        seed, end = self._seed, time.process_time() + self._lives_seconds
        while time.process_time() < end:
            try:
                Life(random.Random(seed)).live(200)
            except Exception:
                return False
            seed += 1
        return True


def _all_pass(items: list[pytest.Item]) -> bool:
    following = [*items[1:], None]
    return not any(report.failed for item, after in zip(items, following, strict=True)
                   for report in runtestprotocol(item, nextitem=after, log=False))


def table(found: list[tuple[Mutant, Found]]) -> str:
    """Return what came of it, table by table, in Markdown."""
    lines = ["| table | bugs | found by tests | by random lives | by a hang or a crash | explained | seconds, median "
             "| … at most |", "|---|---|---|---|---|---|---|---|"]
    for name in _FINDERS:
        ours = [(mutant, each) for mutant, each in found if mutant.table == name]
        if ours:
            by = Counter(each.by for _, each in ours)
            explained = sum(each.by == "survived" and bool(mutant.why) for mutant, each in ours)
            others = len(ours) - by["tests"] - by[_LIVES] - by["survived"]
            seconds = sorted(each.seconds for _, each in ours if each.by != "survived") or [0.0]
            lines.append(f"| {name} | {len(ours)} | {by['tests']} | {by[_LIVES]} | {others} | {explained} "
                         f"| {seconds[len(seconds) // 2]:.1f} | {seconds[-1]:.0f} |")
    return "\n".join(lines)


def main() -> int:
    """Print each row that no test minds, and the figures; exit code 1 if there was one without an explanation."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.mutants", description=(
        "A deliberate bug in each row of the relay's tables: do the tests find it, and how soon?"))
    parser.add_argument("--all", action="store_true",
                        help="all that can be left out of a row, and another state after it")
    parser.add_argument("--only", default="", help="rows in whose table, name and bug this regular expression is found")
    parser.add_argument("--seed", type=int, default=1, help="where the random lives begin (default: 1)")
    parser.add_argument("--lives", type=real(0.1), default=10.0, metavar="SECONDS",
                        help="processor time for the random lives of each (default: 10)")
    parser.add_argument("--sample", type=int, default=10**6,
                        help="so many of the rows, drawn by the seed (default: all)")
    arguments = parser.parse_args()
    chosen = [each for each in mutants(every=arguments.all)
              if re.search(arguments.only, f"{each.table} {each.row} {each.what}")]
    chosen = random.Random(arguments.seed).sample(chosen, min(arguments.sample, len(chosen)))
    # A failure is enough, it need not be made short.
    os.environ["HYPOTHESIS_PROFILE"] = "unshrunk"
    run = Run(chosen, arguments.seed, arguments.lives)
    files = {f"{_TESTS / finder}" for finders in _FINDERS.values() for finder in finders if finder != _LIVES}
    options = ["-q", "-s", "--no-header", "--no-summary", "-p", "no:cacheprovider", "-p", "no:xdist"]
    ended = pytest.main([*options, *sorted(files)], [run])
    if ended != pytest.ExitCode.OK or len(run.found) < len(chosen):
        return 2
    print(table(run.found))
    return 1 if any((found.by == "survived") == (mutant.why is None) for mutant, found in run.found) else 0


if __name__ == "__main__":
    sys.exit(main())
