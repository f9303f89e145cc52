"""Counts a DAG run's connections by their ids, which only increase and are never reused."""

from collections.abc import Callable, Iterator
from itertools import accumulate

from rig.metrics.raw import Repeat
from rig.records import DagRunRecord


def ids_count(record: DagRunRecord) -> bool:
    """Return whether this window's ids show how many connections were opened: nobody else was given any.

    With a tap this is true if the tap and the ids have the same count.
    """
    by_ids = record.ids_opened if record.counted_by == "tap" else record.opened
    return record.opened_exact and by_ids is not None and by_ids == record.opened and record.first_id is not None


def in_window(record: DagRunRecord) -> Callable[[int], bool]:
    """Return a test for ids that were given out between the two marker connections."""
    first, last = record.first_id, record.last_id
    return lambda id_: (first is None or id_ > first) and (last is None or id_ < last)


def seen_ids(repeat: Repeat, record: DagRunRecord) -> set[int]:
    """Return the ids of the connections opened in the window that any sample saw."""
    inside = in_window(record)
    return {id_ for sample in repeat.samples for id_ in sample.open if inside(id_)}


def still_open(repeat: Repeat, record: DagRunRecord) -> int:
    """Return how many of the connections opened in the window were open in the last sample."""
    return len(set(filter(in_window(record), repeat.samples[-1].open)))


def totals(repeat: Repeat, record: DagRunRecord) -> tuple[list[int], list[int]]:
    """Return how many of the window's connections were opened and how many closed, up to each sample."""
    inside = in_window(record)
    opened = list(_by_id(repeat, record) if ids_count(record) else _by_sight(repeat, record))
    now = [len(set(filter(inside, sample.open))) for sample in repeat.samples]
    closed = list(accumulate((total - open_ for total, open_ in zip(opened, now, strict=True)), max))
    if record.opened is not None:
        # The final value is the count at the server, which includes connections that no sample saw.
        opened[-1] = max(opened[-1], record.opened)
        closed[-1] = opened[-1] - now[-1]
    return opened, closed


def _by_id(repeat: Repeat, record: DagRunRecord) -> Iterator[int]:
    """Yield the connections opened up to each sample: ids only grow and are never used twice."""
    first, limit, highest = record.first_id or 0, record.opened or 0, 0
    inside = in_window(record)
    for sample in repeat.samples:
        highest = max([highest, *(id_ - first for id_ in sample.open if inside(id_))])
        yield min(highest, limit)


def _by_sight(repeat: Repeat, record: DagRunRecord) -> Iterator[int]:
    """Yield the distinct connections seen up to each sample: at least this many were opened."""
    seen: set[int] = set()
    inside = in_window(record)
    for sample in repeat.samples:
        seen.update(filter(inside, sample.open))
        yield len(seen)
