"""The contents of the page: the rows of the tab and the points of the charts, from the samples."""

import csv
import io
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

from rig import others
from rig.load.figures import RATE_SECONDS, counted, opened_per_second
from rig.load.records import LoadSample

STRUCTURE: list[dict[str, str | int]] = [
    {"key": "what", "title": "What"}, {"key": "now", "title": "Now", "round": 2},
    {"key": "most", "title": "Highest", "round": 2}, {"key": "meaning", "title": "Meaning"}]

COLUMNS: dict[str, Callable[[LoadSample], float | None]] = {
    "t": lambda sample: sample.t, "rate": lambda sample: sample.rate, "runs_in_flight": lambda sample: sample.in_flight,
    "open": lambda sample: sample.open, "idle": lambda sample: sample.idle, "running": lambda sample: sample.running,
    "opened": lambda sample: sample.opened}

Row = dict[str, str | float | None]
Tests = Sequence[Sequence[LoadSample]]


def by_test(live: Sequence[LoadSample]) -> Tests:
    """Return the samples of each test, as they were taken: what they count is up to :func:`rig.load.figures.counted`.

    Before the first test's samples come those from before it. A test's samples go on until the next one begins.
    """
    starts = [number for number, (before, after) in enumerate(pairwise(live), 1) if before.elapsed <= 0 < after.elapsed]
    return [live[start:end] for start, end in pairwise([0, *starts, len(live)])]


def points(tests: Tests, since: float) -> list[dict[str, Any]]:
    """Return the samples later than a moment (epoch, s) for the page's charts."""
    newer = (counted(series) for series in tests if series and series[-1].t > since)
    return [_point(sample) for sample in chain.from_iterable(newer) if sample.t > since]


def _point(sample: LoadSample) -> dict[str, Any]:
    return {**sample.model_dump(include={"t", "elapsed", "rate", "open", "running", "opened", "runs_queued",
                                         "runs_running", "failed", "trouble"}),
            "idle": sample.idle, "in_flight": sample.in_flight,
            "patterns": {name: [count.open, count.running] for name, count in sample.patterns.items()},
            "workers": None if sample.workers is None else {
                name: [one.processes, one.open, one.in_use, one.opened] for name, one in sample.workers.items()}}


def as_csv(tests: Tests) -> str:
    """Return samples as CSV: one line for each, with an empty field for a value that is not available."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([column(sample) for column in COLUMNS.values()]
                     for sample in chain.from_iterable(map(counted, tests)))
    return file.getvalue()


def table(tests: Tests) -> list[Row]:
    """Return the tab's rows, of the last test. Each column has a plain value, as Locust's table shows nothing else."""
    series = counted(tests[-1])
    if not series:
        return []
    now = series[-1]
    rows = [
        _row("open", [sample.open for sample in series], "Bolt connections that Neo4j has open now"),
        _row("idle", [sample.idle for sample in series], "of these, without a transaction: kept but idle"),
        _row("in a transaction", [sample.running for sample in series], "of these, at work"),
        _row("opened per second", opened_per_second(series),
             f"new connections, each with a handshake and a login; mean of {RATE_SECONDS:g} s"),
        _row("opened since the start", [sample.opened for sample in series], _meaning_of_opened(now.others)),
        _row("DAG runs in flight", [sample.in_flight for sample in series], "started and not ended"),
        _row("DAG runs queued", [sample.runs_queued for sample in series],
             "of these, not started by Airflow yet: if this grows, the rate does not hold")]
    rows += [_row(f"open · {name}", [_open(sample, name) for sample in series], f"by pattern {name}")
             for name in sorted({name for sample in series for name in sample.patterns})]
    rows += [{"what": f"{name}: drivers' connections", "now": one.open, "most": most_open(series, name),
              "meaning": f"{one.processes} worker processes, {one.in_use} in use, {one.opened} opened so far"}
             for name, one in (now.workers or {}).items()]
    if now.trouble:
        rows.append({"what": "not seen", "now": None, "most": None, "meaning": now.trouble})
    return rows


def _meaning_of_opened(count: int | None) -> str:
    seen = others.seen(count)
    return "counted at the server, without the probe's own" + (f"; a lower bound: {seen}" if seen else "")


def most_open(series: Sequence[LoadSample], worker: str) -> int:
    """Return the most connections that a worker's shared drivers had open."""
    return max(one.open for sample in series if (one := (sample.workers or {}).get(worker)))


def _row(what: str, values: Sequence[float | None], meaning: str) -> Row:
    known = [value for value in values if value is not None]
    return {"what": what, "now": values[-1], "most": max(known, default=None), "meaning": meaning}


def _open(sample: LoadSample, pattern: str) -> int:
    count = sample.patterns.get(pattern)
    return count.open if count else 0
