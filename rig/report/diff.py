"""``rig diff``: two comparisons side by side, cell by cell, to see whether an upgrade changed anything.

The two runs are independent of each other. A count is exact, and so is a gauge that was the same in at least three
repeats: if every repeat of one run has the same value, another value is a difference. If the values vary, the ratio of
the means has an interval: Welch's t on the logarithms, at a level divided by the number of ratios in the report
(Bonferroni), so that 95 % hold for all of them together.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean, variance
from typing import NamedTuple

from rich.table import Table
from rich.text import Text
from scipy import stats

from rig.console import figures_table
from rig.errors import BadInput
from rig.metrics import BY_NAME
from rig.metrics.intervals import Number
from rig.metrics.model import CellSummary, Summary
from rig.plural import plural
from rig.report import phrases
from rig.report.page import PRICE

COMPARED = ("connections_opened", "connections_peak", PRICE.name, "connections_left_5s", "drivers_created",
            "first_result_seconds", "call_seconds", "task_seconds", "makespan_seconds", "tasks_wrong")
LEVEL = 0.95
MEANINGFUL = 0.25       # an interval this close to 1 excludes a larger difference; a wider one says nothing


NOISY = "too noisy to say"


class Change(NamedTuple):
    """A metric of a cell in both runs. ``ratio`` is after divided by before; ``words`` is the verdict."""

    metric: str
    before: str
    after: str
    ratio: float | None
    words: str

    @property
    def is_clear(self) -> bool:
        """Whether the two runs clearly differ."""
        return self.words in {"lower", "higher"}

    @property
    def is_good(self) -> bool | None:
        """Whether a clear difference is an improvement; None if there is no good direction."""
        better = BY_NAME[self.metric].better
        return None if better is None else self.words == better


class CellChanges(NamedTuple):
    """One cell, in both runs."""

    label: str
    changes: Sequence[Change]


class Diff(NamedTuple):
    """Two runs side by side. ``conditions`` are the differences in versions, machine and slots: before, after."""

    before: str
    after: str
    conditions: Mapping[str, tuple[str, str]]
    cells: Sequence[CellChanges]
    only_before: Sequence[str]
    only_after: Sequence[str]

    @property
    def clear(self) -> list[tuple[str, Change]]:
        """Return the clear differences, each with its cell."""
        return [(cell.label, change) for cell in self.cells for change in cell.changes if change.is_clear]

    @property
    def sentence(self) -> str:
        """Return the answer in one sentence."""
        where = f"between {self.before} and {self.after}"
        if not self.clear:
            return f"Nothing clearly differs {where}."
        verb = "differs" if len(self.clear) == 1 else "differ"
        return f"{plural(len(self.clear), 'figure')} clearly {verb} {where}."


def diff(before: Summary, after: Summary) -> Diff:
    """Compare two runs. Raises BadInput if they have no cell in common."""
    earlier, later = _by_key(before), _by_key(after)
    common = [key for key in earlier if key in later]
    if not common:
        raise BadInput(f"{before.run} and {after.run} have no cell in common: expected the same executor, pattern, "
                       "relay, tasks, calls and hold in both", "compare runs of the same profile")
    pairs = [(earlier[key], later[key]) for key in common]
    level = 1 - (1 - LEVEL) / (len(pairs) * len(COMPARED))
    return Diff(before.run, after.run, dict(_conditions(before, after)),
                [CellChanges(phrases.label(one), list(_changes(one, other, level))) for one, other in pairs],
                [phrases.label(cell) for key, cell in earlier.items() if key not in later],
                [phrases.label(cell) for key, cell in later.items() if key not in earlier])


def table(found: Diff) -> Table:
    """Return every figure of both runs as a table for the terminal."""
    made = figures_table("", "before", "after", "ratio", "so", title=Text(found.sentence), title_justify="left",
                         title_style="bold")
    for column in made.columns[1:4]:
        column.justify = "right"
    for cell in found.cells:
        made.add_row(Text(cell.label, "bold"))
        for change in cell.changes:
            made.add_row(Text(f"  {change.metric}"), change.before, change.after, phrases.number(change.ratio),
                         Text(change.words, _style(change)))
    return made


def remarks(found: Diff) -> Iterator[str]:
    """Yield the differences between the runs besides their figures."""
    for name, (before, after) in found.conditions.items():
        yield f"{name}: {before} → {after}"
    for run, cells in ((found.before, found.only_before), (found.after, found.only_after)):
        if cells:
            yield f"only in {run}: {', '.join(cells)}"


def markdown(found: Diff) -> str:
    """Return the comparison in Markdown, for a pull request."""
    lines = [f"**{found.sentence}**", ""]
    lines += [f"- {_escaped(remark)}" for remark in remarks(found)] + [""]
    if found.clear:
        lines += [*_HEAD, *(_line(label, change) for label, change in found.clear), ""]
    lines += ["<details><summary>every figure</summary>", "", *_HEAD,
              *(_line(cell.label, change) for cell in found.cells for change in cell.changes), "", "</details>"]
    return "\n".join(lines)


_HEAD = ("| cell | metric | before | after | ratio | so |", "|---|---|--:|--:|--:|---|")


def _line(label: str, change: Change) -> str:
    sign = {True: "✅ ", False: "⚠️ ", None: ""}[change.is_good] if change.is_clear else ""
    cells = (label, f"`{change.metric}`", change.before, change.after, phrases.number(change.ratio),
             sign + change.words)
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


def _style(change: Change) -> str:
    return {True: "green", False: "red", None: "bold"}[change.is_good] if change.is_clear else ""


def _by_key(summary: Summary) -> dict[tuple[object, ...], CellSummary]:
    return {(cell.executor, cell.pattern, cell.relay, cell.driver, cell.warm, cell.control, cell.preload, cell.tasks,
             cell.calls_per_task, cell.hold_seconds): cell for cell in summary.cells if not cell.is_exhibit}


def _changes(before: CellSummary, after: CellSummary, level: float) -> Iterator[Change]:
    for name in COMPARED:
        one, other = before.metrics[name], after.metrics[name]
        earlier, later = ([value for value in metric.raw if value is not None] for metric in (one, other))
        at_least = one.lower_bound or other.lower_bound
        ratio = mean(later) / mean(earlier) if earlier and later and mean(earlier) and not at_least else None
        words = "only a lower bound is known" if at_least else verdict(earlier, later, level, _alike_needed(name))
        yield Change(name, phrases.median(one), phrases.median(other), ratio, words)


def _alike_needed(name: str) -> int:
    """Return in how many repeats a value must be the same, so that another value is a difference."""
    metric = BY_NAME[name]
    return 2 if metric.kind == "counter" and metric.unit != "s" else 3


def verdict(before: Sequence[Number], after: Sequence[Number], level: float, alike_needed: int) -> str:
    """Return lower, higher, the same, no difference larger than a share, or why there is no verdict."""
    if not before or not after:
        return "not measured"
    if {*before} == {*after} and len({*before}) == 1:
        return "the same"
    if min(len(before), len(after)) == 1:
        return "one repeat: too few to say"
    if len({*before}) == len({*after}) == 1 and min(len(before), len(after)) >= alike_needed:
        return "lower" if after[0] < before[0] else "higher"
    return _by_interval(before, after, level)


def _by_interval(before: Sequence[Number], after: Sequence[Number], level: float) -> str:
    if min(*before, *after) <= 0 or len({*before}) == len({*after}) == 1:
        return NOISY       # no ratio, or nothing that says how much the value varies
    low, high = ratio_interval(before, after, level)
    if not low <= 1 <= high:
        return "lower" if high < 1 else "higher"
    most = max(1 - low, high - 1)
    return f"no difference larger than {phrases.percent(most)}" if most <= MEANINGFUL else NOISY


def ratio_interval(before: Sequence[Number], after: Sequence[Number], level: float) -> tuple[float, float]:
    """Return the interval of the ratio of the (geometric) means: Welch's t on the logarithms.

    Each run needs at least two values above 0, and not all values of both may be equal.
    """
    logs = [[math.log(value) for value in values] for values in (after, before)]
    parts = [variance(values) / len(values) for values in logs]
    error = math.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / sum(part ** 2 / (len(values) - 1) for part, values in zip(parts, logs, strict=True))
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    middle = mean(logs[0]) - mean(logs[1])
    return math.exp(middle - reach), math.exp(middle + reach)


def _conditions(before: Summary, after: Summary) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the differences in the conditions: slots, versions, machine."""
    sides = [{"slots": str(summary.slots), **{" ".join(path): str(value) for path, value in phrases.leaves(
        summary.environment)}} for summary in (before, after)]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        earlier, later = (side.get(name, phrases.NOTHING) for side in sides)
        if earlier != later:
            yield name, (earlier, later)
