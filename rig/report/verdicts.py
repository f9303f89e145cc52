"""What a contrast lets one say, in words: lower, higher, no difference larger than so much, or too noisy to say."""

from collections.abc import Sequence
from typing import NamedTuple

from rig.metrics.intervals import Number
from rig.metrics.model import Contrast
from rig.report import phrases

MEANINGFUL = 0.25
"""An interval that is within so much of 1 excludes a larger difference; a wider one says nothing."""


class Verdict(NamedTuple):
    """The words, the figures behind them, and whether it is ``good``, ``bad`` or neither."""

    words: str
    figures: str
    tone: str = ""


def verdict(contrast: Contrast, baseline: Sequence[Number | None], contender: Sequence[Number | None]) -> Verdict:
    """Return the verdict of a contrast. The values are those of both cells' repeats.

    Where there are too few repeats for an interval it says what all of them have in common, and no more.
    """
    before, after = ([value for value in values if value is not None] for values in (baseline, contender))
    figures = f"{phrases.number(contrast.baseline_median)} → {phrases.number(contrast.contender_median)}"
    if not before or not after or contrast.difference is None:
        return Verdict("not known", contrast.reason or figures)
    if {*before} == {*after} and len({*before}) == 1:
        return Verdict("the same", figures)
    words = _by_interval(contrast) if contrast.ci95 else _by_repeats(before, after)
    return Verdict(words, figures, _tone(words, contrast))


def _by_interval(contrast: Contrast) -> str:
    low, high = contrast.ci95 or (0.0, 0.0)
    if not low <= 1 <= high:
        return "lower" if high < 1 else "higher"
    most = max(1 - low, high - 1)
    return f"no difference larger than {phrases.percent(most)}" if most <= MEANINGFUL else "too noisy to say"


def _by_repeats(before: Sequence[Number], after: Sequence[Number]) -> str:
    repeats = "in one repeat" if min(len(before), len(after)) == 1 else "in every repeat"
    if max(after) < min(before):
        return f"lower {repeats}"
    return f"higher {repeats}" if min(after) > max(before) else "too noisy to say"


def _tone(words: str, contrast: Contrast) -> str:
    direction = words.split(maxsplit=1)[0]
    # One repeat is an observation, and no reason to call it good or bad.
    if contrast.better is None or direction not in {"lower", "higher"} or words.endswith("one repeat"):
        return ""
    return "good" if direction == contrast.better else "bad"
