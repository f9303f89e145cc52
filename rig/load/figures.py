"""The figures of a load test, made only from its raw lines."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from rig.load.records import LoadRun, LoadSample
from rig.percentile import percentile_or_none
from rig.records import Record

RATE_SECONDS = 10.0     # over which connections opened per second are averaged
TIMED = ("throughput", "late_p95", "late_highest", "connections_opened_per_second", "connections_peak",
         "connections_left")        # figures of an outcome that depend on the clock, as its latencies do
LEFT_SECONDS = 5.0      # after the last run's end, like the metric `connections_left_5s`
LATE = "tasks had started before the first look at Neo4j, as on an overloaded machine"
UNSEEN_END = "DAG runs ended after the last look at Neo4j"
UNSEEN_AT_MOST = 5.0    # seconds before a DAG run ends, in which its tasks' processes end and the scheduler notices


class Latency(Record):
    """A latency over all runs that have it, in seconds. With fewer than 20 runs, there is no 95th percentile."""

    count: int
    median: float | None
    p95: float | None
    highest: float | None

    @property
    def tail(self) -> float | None:
        """The 95th percentile; with fewer than 20 values, the maximum."""
        return self.highest if self.p95 is None else self.p95


class Outcome(Record):
    """The figures of a load test. Rates are per second; a figure that is not available is None.

    If ``connections_lower_bound`` is set, the connections opened are only a lower bound; if they are not known,
    ``connections_reason`` says why. ``others`` is how many connections of other users were seen. ``connections_left``
    leaves out as many connections as were open when the test began: connections of a driver that already existed are
    not a leak of this test.
    """

    arrivals: int
    succeeded: int
    failed: int
    interrupted: int
    failure_share: float | None
    throughput: float | None
    latencies: dict[str, Latency]
    late_p95: float | None
    late_highest: float | None = None
    connections_opened: int | None
    connections_lower_bound: bool = False
    connections_reason: str | None = None
    others: int | None = None
    connections_opened_per_second: float | None
    connections_opened_per_run: float | None
    connections_peak: int | None
    connections_left: int | None
    reasons: dict[str, int]


def without_times(figures: Outcome) -> Outcome:
    """Return the figures of a test in which the clock was set: those that depend on the clock are missing."""
    return figures.model_copy(update={
        **dict.fromkeys(TIMED), "latencies": {name: latency([]) for name in figures.latencies}})


def latency(values: Iterable[float | None]) -> Latency:
    """Return the figures of a latency, without the runs that do not have it."""
    known = [value for value in values if value is not None]
    return Latency(count=len(known), median=percentile_or_none(known, 50),
                   p95=percentile_or_none(known, 95),
                   highest=max(known, default=None))


def others(series: Sequence[LoadSample]) -> int | None:
    """Return how many connections of other users were seen in a test; None if nobody looked for them."""
    return max((sample.others for sample in series if sample.others is not None), default=None)


def counted(series: Sequence[LoadSample]) -> Sequence[LoadSample]:
    """Return the samples with the count for a whole test: if others were seen, only those that a look saw count.

    The server's ids would count the others' connections too, even those that no look has seen.
    """
    if not others(series):
        return series
    return [sample.model_copy(update={"opened": sample.seen}) for sample in series]


def opened_per_second(series: Sequence[LoadSample]) -> list[float | None]:
    """Return, for each sample, the connections opened per second over the RATE_SECONDS before it; None if not counted.

    It is None too where the count begins again.
    """
    rates, first = list[float | None](), 0
    for number, sample in enumerate(series):
        while sample.t - series[first].t > RATE_SECONDS:
            first += 1
        before = series[first]
        opened = None if sample.opened is None or before.opened is None else sample.opened - before.opened
        rates.append(None if number == first or opened is None or opened < 0 else opened / (sample.t - before.t))
    return rates


def outcome(runs: Sequence[LoadRun], series: Sequence[LoadSample], *, shared: bool = False) -> Outcome:
    """Return the figures of a test. ``shared``: others use its Neo4j too. ``series`` is from :func:`counted`."""
    ended = [run for run in runs if run.state != "interrupted"]
    succeeded = sum(run.state == "success" for run in ended)
    failed = len(ended) - succeeded
    uncovered = _why_uncovered(runs, series)
    opened = None if uncovered else _last_opened(series)
    seconds, late = _seconds(runs), latency(run.late for run in runs)
    return Outcome(
        arrivals=len(runs), succeeded=succeeded, failed=failed, interrupted=len(runs) - len(ended),
        failure_share=failed / len(ended) if ended else None,
        throughput=succeeded / seconds if seconds else None,
        latencies={name: latency(getattr(run, name) for run in runs if run.state == "success" or name == "trigger")
                   for name in ("trigger", "queued", "run", "task_median", "task_tail")},
        late_p95=late.p95, late_highest=late.highest, connections_opened=opened,
        connections_lower_bound=opened is not None and (shared or bool(others(series))),
        connections_reason=(uncovered or _why_not_counted(series)) if opened is None else None, others=others(series),
        connections_opened_per_second=opened / seconds if seconds and opened is not None else None,
        connections_opened_per_run=opened / succeeded if succeeded and opened is not None else None,
        connections_peak=max((sample.open for sample in series if sample.open is not None), default=None),
        connections_left=None if uncovered else _left(runs, series), reasons=reasons(runs))


def reasons(runs: Iterable[LoadRun]) -> dict[str, int]:
    """Return the reasons why runs failed, with the number of runs for each."""
    found: dict[str, int] = {}
    for run in runs:
        if run.failed:
            found[run.reason or run.state] = found.get(run.reason or run.state, 0) + 1
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def opened_by_run(run: LoadRun, series: Sequence[LoadSample]) -> float | None:
    """Return a run's share of the connections opened while it was in flight, divided equally among all runs in flight.

    Returns None if nothing was counted.
    """
    if run.run is None:
        return None
    total: float | None = None
    for before, after in pairwise(series):
        # Counted at the middle of the interval, which is short compared with the runs.
        if before.opened is None or after.opened is None or not (
                run.due <= (before.t + after.t) / 2 <= run.due + run.run):
            continue
        total = (total or 0.0) + (after.opened - before.opened) / max(1, before.in_flight)
    return total


class Saturated(Record):
    """What a closed loop reached: so many DAG runs in flight all the time, and how many per second ended.

    Counted from the moment when as many have ended as are in flight, so that the pipeline is full and they no longer go
    in step, to the last moment at which one may start: for ``seconds``. None where that leaves nothing.
    """

    users: int
    seconds: float | None
    throughput: float | None


def saturated(runs: Sequence[LoadRun], users: int, until: float) -> Saturated:
    """Return what a closed loop reached in which DAG runs were started until a moment (epoch, s)."""
    ended = sorted(run.due + run.run for run in runs if run.state == "success" and run.run is not None)
    begun = ended[users - 1] if len(ended) >= users else until
    if begun >= until:
        return Saturated(users=users, seconds=None, throughput=None)
    seconds = until - begun
    return Saturated(users=users, seconds=seconds, throughput=sum(begun < end <= until for end in ended) / seconds)


class Window(Record):
    """A part of a test with the runs that were due in it. Latencies are in seconds; ended and opened are per second.

    A tail is the 95th percentile; with fewer than 20 ``runs``, the maximum.
    """

    runs: int
    run_median: float | None
    run_tail: float | None
    queued_tail: float | None
    throughput: float
    opened_per_second: float | None


def window(runs: Sequence[LoadRun], series: Sequence[LoadSample], begun: float, ended: float) -> Window:
    """Return the figures between two moments (epoch, s)."""
    due = [run for run in runs if begun <= run.due < ended and run.state == "success"]
    over = sum(run.state == "success" and begun <= run.due + (run.run or 0.0) < ended for run in runs)
    run, queued = latency(run.run for run in due), latency(run.queued for run in due)
    return Window(runs=run.count, run_median=run.median, run_tail=run.tail, queued_tail=queued.tail,
                  throughput=over / (ended - begun), opened_per_second=_opened_between(series, begun, ended))


def steady_figures(series: Sequence[LoadSample], minute: int) -> dict[str, float | None]:
    """Return the means, over one minute (the first is 1), of the figures that must not grow in a soak."""
    within = [sample for sample in series if (minute - 1) * 60 <= sample.elapsed < minute * 60]
    taken = [sample.resources for sample in within if sample.resources is not None]
    columns: dict[str, list[float]] = {
        "connections": [sample.open for sample in within if sample.open is not None],
        "processes": [one.processes for one in taken], "descriptors": [one.descriptors for one in taken],
        "memory": [one.memory for one in taken]}
    return {name: sum(values) / len(values) if values else None for name, values in columns.items()}


def _last_opened(series: Sequence[LoadSample]) -> int | None:
    return next((sample.opened for sample in reversed(series) if sample.opened is not None), None)


def _why_not_counted(series: Sequence[LoadSample]) -> str:
    return _last_trouble(series) or "Neo4j: no look was taken"


def _last_trouble(series: Sequence[LoadSample]) -> str | None:
    return next((sample.trouble for sample in reversed(series) if sample.trouble is not None), None)


def _why_uncovered(runs: Sequence[LoadRun], series: Sequence[LoadSample]) -> str | None:
    """Return why the looks at Neo4j miss some tasks; None if they cover all, or if there was no look at all.

    A DAG run ends some seconds after its tasks' last queries, so the last look may be UNSEEN_AT_MOST before its end.
    """
    looks = [sample.t for sample in series if sample.opened is not None]
    if not looks:
        return None
    if any(run.queued is not None and run.due + run.queued < looks[0] for run in runs):
        return LATE
    if any(run.run is not None and run.due + run.run > looks[-1] + UNSEEN_AT_MOST for run in runs):
        return f"{UNSEEN_END}: {trouble}" if (trouble := _last_trouble(series)) else UNSEEN_END
    return None


def _opened_between(series: Sequence[LoadSample], begun: float, ended: float) -> float | None:
    within = [sample for sample in series if begun <= sample.t <= ended and sample.opened is not None]
    if len(within) < 2 or within[-1].opened is None or within[0].opened is None:
        return None
    return (within[-1].opened - within[0].opened) / (within[-1].t - within[0].t)


def _seconds(runs: Sequence[LoadRun]) -> float:
    """Return the time from the first arrival to the last end, in seconds."""
    if not runs:
        return 0.0
    return max(run.due + (run.run or run.trigger or 0.0) for run in runs) - min(run.due for run in runs)


def _left(runs: Sequence[LoadRun], series: Sequence[LoadSample]) -> int | None:
    """Return how many more connections were open LEFT_SECONDS after the last run's end than when the test began."""
    last = max((run.due + (run.run or 0.0) for run in runs), default=0.0)
    seen = [sample for sample in series if sample.open is not None]
    after = next((sample.open for sample in seen if sample.t >= last + LEFT_SECONDS), None)
    return None if after is None else max(0, after - (seen[0].open or 0))
