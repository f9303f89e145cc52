"""Write the tables of docs/reliability.md from the trials kept in docs/results/faults.json.

``python -m chaos.page FILE…`` first keeps the trials of these files, which ``python -m chaos --out`` has written,
without what the processes used. Without a file, the tables are made from the trials that are kept.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from chaos import table
from chaos.trial import Outcome
from patterns.facts import EXECUTORS
from rig.errors import BadInput
from rig.settings import PROJECT
from rig.whole_file import write_whole
from testing import marked

KEPT = PROJECT / "docs" / "results" / "faults.json"
PAGE = PROJECT / "docs" / "reliability.md"


def keep(files: Sequence[Path]) -> None:
    """Keep the trials of these files, one on each line. Raises BadInput if the suite has not written one of them."""
    trials = [{**asdict(outcome), "sizes": {}} for outcome in table.read(files)]
    lines = ",\n".join(json.dumps(trial) for trial in trials)
    write_whole(KEPT, f'{{"trials": [\n{lines}\n]}}\n')


def with_tables(page: str, outcomes: Sequence[Outcome]) -> str:
    """Return a page with new contents in each of its blocks. Raises KeyError if a block has no known name."""
    return marked.replaced(page, "faults", lambda name: BLOCKS[name](outcomes))


def sums(outcomes: Sequence[Outcome]) -> str:
    """Return what was tried in one sentence, and what held in a second one."""
    pairs = [str(outcome.plan) for outcome in outcomes if len(outcome.plan.faults) > 1]
    return (f"{len(outcomes)} trials, {len(pairs)} of them of two faults ({len(set(pairs))} different), with "
            f"{sum(outcome.plan.tasks for outcome in outcomes):,} tasks, of which "
            f"{sum(outcome.again for outcome in outcomes):,} tries failed. The faults hit something in "
            f"{sum(outcome.landed for outcome in outcomes)} trials, and everything held in "
            f"{sum(outcome.held for outcome in outcomes)}:")


def by_fault(outcomes: Sequence[Outcome]) -> str:
    """Return a table with a row for each fault, and a column for each executor: how many of the trials held."""
    rows = []
    for fault in dict.fromkeys(map(table.fault, outcomes)):
        of_it = [outcome for outcome in outcomes if table.fault(outcome) == fault]
        split = [[outcome for outcome in of_it if outcome.plan.executor == executor] for executor in EXECUTORS]
        rows.append([fault, *map(_held, split), ", ".join(str(_again(part)) for part in split if part),
                     table.started_again(of_it)])
    return marked.table(["fault", *(f"{executor}: held of tried" for executor in EXECUTORS), "tries that failed",
                         "services started again besides"], rows)


def by_invariant(outcomes: Sequence[Outcome]) -> str:
    """Return a table with a row for each thing that must hold. Trials that hit nothing are left out."""
    return "\n".join(table.by_invariant(outcomes))


BLOCKS = {"sums": sums, "by-fault": by_fault, "by-invariant": by_invariant}


def _held(outcomes: Sequence[Outcome]) -> str:
    return f"{sum(outcome.held for outcome in outcomes)} of {len(outcomes)}" if outcomes else ""


def _again(outcomes: Sequence[Outcome]) -> int:
    return sum(outcome.again for outcome in outcomes)


def main(arguments: list[str] | None = None) -> int:
    """Write the tables; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m chaos.page", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="what --out has written")
    options = parser.parse_args(arguments)
    try:
        if options.files:
            keep(options.files)
        write_whole(PAGE, with_tables(PAGE.read_text(encoding="utf-8"), table.read([KEPT])))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
