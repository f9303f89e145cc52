"""What the samples show: integrals over time, peaks, and the timelines that the charts show.

A sample's value holds until the next sample. So the opening and the end of a connection are seen late by the same time
on average, and sampling does not bias the mean.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from rig.metrics.missing import Missing
from rig.metrics.raw import Repeat
from rig.records import Sample, TaskRecord

AFTERMATH_SECONDS = 5.0
"""How long a DAG run still counts after its last task."""

LONGEST_GAP_SECONDS = 5.0
"""A mean is not valid if a part of the window longer than this has no sample."""


class Window(NamedTuple):
    """A period of time, in seconds since the epoch."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Return its length."""
        return self.end - self.start


class Point(NamedTuple):
    """Connections at one moment, ``t`` in seconds."""

    t: float
    value: int


def idle(sample: Sample) -> int:
    """Return how many connections are open and not in a transaction."""
    return len(set(sample.open) - set(sample.running))


def running(sample: Sample) -> int:
    """Return how many open connections are in a transaction, so that idle and running add up to open."""
    return len(set(sample.open) & set(sample.running))


def open_(sample: Sample) -> int:
    """Return how many connections are open."""
    return len(set(sample.open))


def times(tasks: Sequence[TaskRecord], of: Callable[[TaskRecord], float | None], what: str) -> list[float]:
    """Return one time of every task. Raises Missing if a task does not have it."""
    known = [time for task in tasks if (time := of(task)) is not None]
    if len(known) < len(tasks):
        raise Missing(f"{len(tasks) - len(known)} of {len(tasks)} tasks have no {what}")
    return known


def makespan_window(repeat: Repeat) -> Window:
    """Return the time from the first mapped task queued to the last one ended. Raises Missing if a time is missing."""
    tasks = all_tasks(repeat)
    return Window(min(times(tasks, lambda task: task.queued_at, "queued time")),
                  max(times(tasks, lambda task: task.ended_at, "end")))


def all_tasks(repeat: Repeat) -> Sequence[TaskRecord]:
    """Return the DAG run's mapped tasks. Raises Missing if not all of them were recorded."""
    if not repeat.tasks or len(repeat.tasks) < repeat.cell.tasks:
        raise Missing(f"{len(repeat.tasks)} of {repeat.cell.tasks} tasks were recorded")
    return repeat.tasks


def some_samples(repeat: Repeat) -> Sequence[Sample]:
    """Return the DAG run's samples. Raises Missing if there are none."""
    if not repeat.samples:
        why = repeat.record.sampler_reason if repeat.record else None
        raise Missing(f"the sampler took no sample{f': {why}' if why else ''}")
    return repeat.samples


def observation(repeat: Repeat) -> Window:
    """Return the time from the start of the makespan window to the last sample, whose value holds to the window's end.

    Raises Missing if a part of it was not sampled, because nobody knows what happened there.
    """
    makespan = makespan_window(repeat)
    window = Window(makespan.start, max(makespan.end, some_samples(repeat)[-1].t))
    inside = [sample.t for sample in repeat.samples if window.start <= sample.t <= window.end]
    gap = max(later - earlier for earlier, later in pairwise([window.start, *inside, window.end]))
    if gap > LONGEST_GAP_SECONDS:
        raise Missing(f"no sample for {gap:.1f} s of the window")
    return window


def peak(repeat: Repeat, of: Callable[[Sample], int]) -> int:
    """Return the highest value of any sample."""
    observation(repeat)
    return max(map(of, repeat.samples))


def mean(repeat: Repeat, of: Callable[[Sample], int]) -> float:
    """Return the time-weighted mean over the makespan window, or the part of it since the first sample."""
    start = max(observation(repeat).start, repeat.samples[0].t)
    window = Window(start, makespan_window(repeat).end)
    if window.seconds <= 0:
        raise Missing("the makespan window has no length")
    return _integral(repeat.samples, of, window) / window.seconds


def idle_seconds(repeat: Repeat) -> float:
    """Return the integral of idle from the start of the makespan window to the last sample, 5 s after its end at most.

    What is kept for the next DAG run is idle for as long as it is observed, so all cells are observed for equally long.
    """
    seen, end = observation(repeat), makespan_window(repeat).end
    return _integral(repeat.samples, idle, Window(seen.start, min(seen.end, end + AFTERMATH_SECONDS)))


def idle_seconds_kept(repeat: Repeat, is_kept: Callable[[int], bool]) -> float:
    """Return the integral of idle as if no other DAG run came: to the last sample, then to the idle timeout.

    A kept connection was used last before the window's end. The timeout is counted from the window's end, which is some
    seconds more than remained. Raises Missing if the timeout is not known, or if a connection was left open that no
    shared driver keeps: nobody knows when it ends.
    """
    seen, end = observation(repeat), makespan_window(repeat).end
    left = set(repeat.samples[-1].open)
    if left and repeat.idle_timeout is None:
        raise Missing("the idle timeout was not recorded")
    if unknown := sum(not is_kept(id_) for id_ in left):
        raise Missing(f"{unknown} connections that no shared driver keeps were open in the last sample")
    rest = max(0.0, end + (repeat.idle_timeout or 0.0) - seen.end)
    return _integral(repeat.samples, idle, seen) + len(left) * rest


def intervals(samples: Sequence[Sample]) -> list[float]:
    """Return the seconds between consecutive samples."""
    return [later.t - earlier.t for earlier, later in pairwise(samples)]


def _integral(samples: Sequence[Sample], of: Callable[[Sample], int], window: Window) -> float:
    return sum(value * piece.seconds for value, piece in _pieces(samples, of, window))


def _pieces(samples: Sequence[Sample], of: Callable[[Sample], int], window: Window,
            ) -> Iterator[tuple[int, Window]]:
    """Yield each sample's value with the part of the window in which it holds."""
    ends = [sample.t for sample in samples[1:]] + [window.end]
    for sample, end in zip(samples, ends, strict=True):
        piece = Window(max(sample.t, window.start), min(end, window.end))
        if piece.seconds > 0:
            yield of(sample), piece
