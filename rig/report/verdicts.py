"""The verdict of a contrast in words: lower, higher, no difference larger than a share, or too noisy to say."""

from collections.abc import Sequence
from typing import NamedTuple

from rig.metrics.intervals import Number, Said
from rig.metrics.model import Contrast
from rig.report import phrases


class Verdict(NamedTuple):
    """The words, the figures behind them, and whether this is ``good``, ``bad`` or neither."""

    words: str
    figures: str
    tone: str = ""


def verdict(contrast: Contrast, baseline: Sequence[Number | None], contender: Sequence[Number | None]) -> Verdict:
    """Return the verdict of a contrast. The values are those of both cells' repeats.

    If there are too few repeats for an interval, it only says what all of them have in common.
    """
    before, after = ([value for value in values if value is not None] for values in (baseline, contender))
    figures = f"{phrases.number(contrast.baseline_median)} → {phrases.number(contrast.contender_median)}"
    if not before or not after or contrast.difference is None:
        return Verdict("not known", contrast.reason or figures)
    if {*before} == {*after} and len({*before}) == 1:
        return Verdict("the same", figures)
    if contrast.verdict is None:
        return Verdict(_by_repeats(before, after), figures)
    return Verdict(str(Said(contrast.verdict, contrast.at_most)), figures, _tone(contrast))


def _by_repeats(before: Sequence[Number], after: Sequence[Number]) -> str:
    """Return what the repeats have in common. With three, one equal pair in ten has that by chance."""
    repeats = min(len(before), len(after))
    of = f"in all {repeats} repeats" if repeats > 1 else "in one repeat"
    if max(after) < min(before):
        return f"lower {of}"
    return f"higher {of}" if min(after) > max(before) else "too noisy to say"


def _tone(contrast: Contrast) -> str:
    if contrast.better is None or contrast.verdict not in {"lower", "higher"}:
        return ""
    return "good" if contrast.verdict == contrast.better else "bad"
