"""Does anything grow in a soak? The slope of each measure, with an interval, from the test's raw lines."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from rig.load.records import LoadRun, LoadSample
from rig.records import Record

SETTLED = 120.0     # seconds from the start, after which everything that starts late has started
# The least seconds that are averaged into one value, and the most values. A measure taken every second depends on the
# seconds before, so an interval from all of them would be too narrow. In an hour a value is the mean of 290 s.
BLOCK = 30.0
MOST_BLOCKS = 12
LEAST_BLOCKS = 6    # with fewer, the interval says nothing
HOUR = 3600.0
MIB = 2**20

Point = tuple[float, float]


class Slope(Record):
    """How much a measure grows per hour (Theil and Sen's slope), with its 95 % interval, and the measure's mean."""

    per_hour: float
    low: float
    high: float
    mean: float
    blocks: int

    @property
    def verdict(self) -> str:
        """Return in a word whether it grows; only if the whole interval is on one side of 0."""
        return "grows" if self.low > 0 else "falls" if self.high < 0 else "flat"


def slopes(runs: Sequence[LoadRun], series: Sequence[LoadSample]) -> dict[str, Slope | None]:
    """Return the slope of each measure; None if there are too few values."""
    begun = min((sample.t - sample.elapsed for sample in series), default=0.0)
    taken = [(sample.elapsed, sample.resources) for sample in series if sample.resources is not None]
    succeeded = [run for run in runs if run.state == "success"]
    measures: dict[str, Iterable[tuple[float, float | None]]] = {
        "connections": [(sample.elapsed, sample.open) for sample in series],
        "processes": [(moment, each.processes) for moment, each in taken],
        "descriptors": [(moment, each.descriptors) for moment, each in taken],
        "resident memory, MiB": [(moment, each.memory / MIB) for moment, each in taken],
        "memory (PSS), MiB": [(moment, None if each.pss is None else each.pss / MIB) for moment, each in taken],
        "seconds to a DAG run's end": [(run.due - begun, run.run) for run in succeeded],
        "seconds to its first task": [(run.due - begun, run.queued) for run in succeeded]}
    return {name: slope([(moment, value) for moment, value in points if value is not None])
            for name, points in measures.items()}


def slope(points: Sequence[Point]) -> Slope | None:
    """Return the slope of a measure over time (seconds since the start); None if there are too few blocks.

    Theil and Sen's slope is the median of the slopes of all pairs, which outliers do not affect. Its interval is Sen's
    (1968). Both are from scipy.stats.theilslopes.
    """
    from scipy import stats  # noqa: PLC0415 - takes a second, and most of what imports this judges nothing

    settled = [(moment - SETTLED, value) for moment, value in points if moment >= SETTLED]
    length = max(BLOCK, max((moment for moment, _ in settled), default=0.0) / MOST_BLOCKS)
    blocks: dict[int, list[Point]] = {}
    for moment, value in settled:
        blocks.setdefault(min(int(moment / length), MOST_BLOCKS - 1), []).append((moment, value))
    if len(blocks) < LEAST_BLOCKS:
        return None
    moments = [fmean(moment for moment, _ in block) for block in blocks.values()]
    means = [fmean(value for _, value in block) for block in blocks.values()]
    found = stats.theilslopes(means, moments)
    return Slope(per_hour=found.slope * HOUR, low=found.low_slope * HOUR, high=found.high_slope * HOUR,
                 mean=fmean(means), blocks=len(means))
