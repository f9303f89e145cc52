"""The suite's output: for each fault what must hold, how often it was tried, and how often it held."""

import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel

from chaos.ground import Size
from chaos.trial import INVARIANTS, MOST_SHOWN, Outcome
from rig.errors import BadInput

LONG_LIFE = 10      # trials, from which on a process is in the table of growth
MB = 1e6


class _Written(BaseModel):
    """A file that --out has written; what it has besides the trials is not read."""

    trials: list[Outcome]


def of_faults(outcomes: Sequence[Outcome]) -> str:
    """Return a Markdown table: a row for each fault and executor, with a line for each invariant that did not hold.

    A trial whose fault hit nothing counts as tried, but neither as hit nor as held. What each one hit is in the file.
    """
    rows = ["| fault | executor | tried | hit | held | tries that failed | started again besides | what did not hold |",
            "|---|---|---|---|---|---|---|---|"]
    for name, executor, of_it in _grouped(outcomes):
        counts = [len(of_it), sum(outcome.landed for outcome in of_it), sum(outcome.held for outcome in of_it),
                  sum(outcome.again for outcome in of_it)]
        what = "; ".join(sorted({f"{what} ({why})" for outcome in of_it for what, why in outcome.broken.items()}))
        cells = [name, executor, *map(str, counts), started_again(of_it), _cell(what)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([*rows, "", *by_invariant(outcomes)])


def of_growth(outcomes: Sequence[Outcome]) -> str:
    """Return a Markdown table: what each process used after the first and the last trial that it lived through.

    A process is left out if it lived through fewer than ``LONG_LIFE`` trials. Its first trial is not counted: caches
    and pools fill up in it.
    """
    lives: dict[str, list[Size]] = {}
    for outcome in outcomes:
        for process, size in outcome.sizes.items():
            lives.setdefault(process, []).append(size)
    rows = ["| process | trials | descriptors | threads | resident, MB |", "|---|---|---|---|---|"]
    for process, sizes in lives.items():
        if len(sizes) >= LONG_LIFE:
            first, last = sizes[1], sizes[-1]
            rows.append(f"| {_cell(process)[:MOST_SHOWN]} | {len(sizes)} | {first.descriptors} to {last.descriptors} | "
                        f"{first.threads} to {last.threads} | {first.resident / MB:.0f} to {last.resident / MB:.0f} |")
    return "\n".join(rows) if len(rows) > 2 else ""


def never_hit(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the faults that hit nothing in any of their trials."""
    return [f"{name} on {executor}" for name, executor, of_it in _grouped(outcomes)
            if not any(outcome.landed for outcome in of_it)]


def of_bugs(found: Sequence[tuple[str, Outcome]]) -> str:
    """Return a Markdown table: each deliberate bug, its fault, and the invariant that found it."""
    rows = ["| deliberate bug | fault | found by |", "|---|---|---|"]
    for bug, outcome in found:
        rows.append(f"| {bug} | {' and '.join(map(str, outcome.plan.faults))} "
                    f"| {_cell('; '.join(f'{what}: {why}' for what, why in outcome.broken.items()) or 'NOT FOUND')} |")
    return "\n".join(rows)


def write(out: Path, found: Mapping[str, Any]) -> Path:
    """Write what was found to a file, with the circumstances; return the file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {
        "arguments": sys.argv[1:], "written": time.strftime("%FT%TZ", time.gmtime()),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(),
                    "load_average": [round(load, 1) for load in psutil.getloadavg()]}, **found}
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return out


def read(files: Sequence[Path]) -> list[Outcome]:
    """Return the outcomes in these files. Raises BadInput if one was not written by this suite."""
    found = []
    for file in files:
        try:
            found += _Written.model_validate_json(file.read_text(encoding="utf-8")).trials
        except (OSError, ValueError) as error:
            raise BadInput(f"{file} holds no trials of this suite ({type(error).__name__})",
                           "name files that --out has written") from error
    return found


def of_trials(outcomes: Sequence[Outcome]) -> str:
    """Return all tables of trials: of the faults, of what must hold, and of what grows."""
    return f"{of_faults(outcomes)}\n\n{of_growth(outcomes)}"


def by_invariant(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the lines of a Markdown table: how often each invariant was checked, and how often it held."""
    yield "| what must hold | tried | held |"
    yield "|---|---|---|"
    for invariant in INVARIANTS:
        judged = [outcome for outcome in outcomes if invariant in outcome.judged and outcome.landed]
        yield f"| {invariant} | {len(judged)} | {sum(invariant not in outcome.broken for outcome in judged)} |"


def fault(outcome: Outcome) -> str:
    """Return the name of a trial's fault in the tables."""
    faults = outcome.plan.faults
    return str(faults[0]) if len(faults) == 1 else "two at random"


def started_again(outcomes: Sequence[Outcome]) -> str:
    """Return which services were started again besides those that a fault hit, and how often."""
    counted = Counter(name for outcome in outcomes for name in outcome.started_again)
    return ", ".join(f"{name} ({count})" for name, count in sorted(counted.items()))


def _grouped(outcomes: Sequence[Outcome]) -> Iterator[tuple[str, str, list[Outcome]]]:
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((fault(outcome), outcome.plan.executor), []).append(outcome)
    for (name, executor), of_it in groups.items():
        yield name, executor, of_it


def _cell(text: str) -> str:
    return text.replace("|", "/").replace("\n", " ")
