"""What the figures cannot show: first the limits of this run, then those of the method."""

from collections.abc import Iterator
from statistics import median

from rig import others
from rig.environment import OWN_NEO4J, is_tapped
from rig.metrics.intervals import LEAST_BLOCKS
from rig.metrics.model import Summary
from rig.plural import plural
from rig.report import phrases


def limitations(summary: Summary) -> list[str]:
    """Return one or two plain sentences for each limit."""
    return [*_sampling(summary), *_probe(summary), *_slots(summary), *_repeats(summary), *summary.unsaid,
            *_bounds(summary), *_tap(summary), *_members(summary), *_retries(summary), *METHOD]


METHOD = (
    "A connection that lives between two samples is in the counts, and not in the gauges: peaks are the highest value "
    "seen, the true peak can be higher.",
    "Opened less closed is what is open at that moment, not what leaked. A task process ends without closing its "
    "sockets properly, but they end with it. Connections left counts what outlives its task, a pool that is kept "
    "on purpose as well as a leak.",
    "Whether a driver that is dropped leaks depends on its version: compare only runs with the same one.",
    "Latencies of tasks vary by a factor of two from DAG run to DAG run. They are not contrasted between patterns, "
    "and between executors only because there is no other way.",
    "Server, Airflow and tasks share one machine: what the tasks use is not available to the server.",
    "Connections abandoned, without GOODBYE, cannot be seen: nothing in front of the server records how a connection "
    "ended.",
    "Where tasks go through a shared driver, its connections belong to no task: they stay open on purpose until their "
    "idle timeout, and count as left. A warm cell is the DAG run right after its cold one, on the same workers.",
)


def _mean(summary: Summary) -> str:
    known = [value for cell in summary.cells if (value := cell.conditions["concurrency_mean"].median) is not None]
    return (f"; on average {phrases.number(min(known))} to {phrases.number(max(known))} tasks ran at once, by cell"
            if known else "")


def _sampling(summary: Summary) -> Iterator[str]:
    shares = [run.sampler for run in summary.dag_runs]
    if medians := [share.interval_median for share in shares if share.interval_median is not None]:
        p95 = max((share.interval_p95 for share in shares if share.interval_p95 is not None), default=None)
        longest = max((share.interval_longest for share in shares if share.interval_longest is not None), default=None)
        yield (f"Open connections were sampled every {phrases.number(median(medians))} s (median); the 95th "
               f"percentile of the slowest DAG run is {phrases.number(p95)} s, the longest gap of all "
               f"{phrases.number(longest)} s.")
    else:
        yield "No samples: there are no gauges, and no timeline."


def _probe(summary: Summary) -> Iterator[str]:
    shares = [run.sampler for run in summary.dag_runs if run.sampler.connections is not None]
    if shares:
        yield (f"The probe is not part of the figures, but it is load: "
               f"{plural(sum(share.connections or 0 for share in shares), 'connection')}, "
               f"{sum(share.queries or 0 for share in shares):,} queries and "
               f"{phrases.number(round(sum(share.cpu_seconds or 0 for share in shares), 1))} s of CPU time in "
               f"{plural(len(shares), 'DAG run')}.")


def _slots(summary: Summary) -> Iterator[str]:
    reached = {phrases.label(cell): value for cell in summary.cells if (value := cell.concurrency_reached) is not None}
    fewer = "; ".join(f"{name} {phrases.number(value)}" for name, value in reached.items() if value != summary.slots)
    if not reached:
        yield f"Both executors had {summary.slots} slots; how many tasks ran at once is not known."
    elif fewer:
        yield (f"Every cell had {summary.slots} slots, but not all used them. Tasks at once at most: {fewer}"
               f"{_mean(summary)}.")
    else:
        yield f"Every cell had {summary.slots} slots, and at some moment all were in use{_mean(summary)}."
    if reached and (unknown := len(summary.cells) - len(reached)):
        yield f"How many tasks ran at once is not known of {plural(unknown, 'cell')}."


def _repeats(summary: Summary) -> Iterator[str]:
    measured = [cell.repeats_measured for cell in summary.cells]
    if measured and max(measured) >= LEAST_BLOCKS:
        yield (f"Intervals come from up to {max(measured)} repeats of each cell, which are DAG runs in blocks. Those "
               "of the contrasts are corrected for their number (Bonferroni), so that most leave a wide margin.")


def _bounds(summary: Summary) -> Iterator[str]:
    bounds = [phrases.label(cell) for cell in summary.cells if cell.metrics["connections_opened"].lower_bound]
    if bounds:
        why = others.why_lower_bound(phrases.most_others(summary.dag_runs), phrases.IN_ONE_DAG_RUN)
        yield f"{why}, for {phrases.enumerate_words(bounds)}."


def _members(summary: Summary) -> Iterator[str]:
    if summary.environment.get(OWN_NEO4J) is False:
        yield ("Connections were listed by one server. On a cluster or on Aura each member lists its own, and has ids "
               "of its own: connections to other members are in no "
               f"{'figure but those opened' if is_tapped(summary.environment) else 'figure'}.")


def _tap(summary: Summary) -> Iterator[str]:
    if is_tapped(summary.environment):
        yield ("Connections opened were counted by a tap, a TCP proxy between the tasks and the server, and not by the "
               "server's ids. Each connection takes one hop more, and its TLS, where the address asks for any, ends in "
               "the tap: times are not those of a run without a tap. What connects to the server by itself is not "
               "counted.")


def _retries(summary: Summary) -> Iterator[str]:
    if retried := sum(run.tasks_retried for run in summary.dag_runs):
        yield f"Airflow tried {plural(retried, 'task')} more than once; their times are of the last try."
