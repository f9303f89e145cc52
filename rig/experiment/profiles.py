"""Profiles: what is compared, and how often, under one name."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from rig.errors import BadInput
from rig.records import Cell, Executor, PlannedRun

Driver = Literal["sync", "async"]

EXECUTORS: dict[str, Executor] = {"local": "LocalExecutor", "celery": "CeleryExecutor"}
DAG_OF_PATTERN = {"problematic": "neo4j_problematic_pattern", "improved": "neo4j_improved_pattern"}
MOST_TASKS = 10_000
MOST_REPEATS = 100


@dataclass(frozen=True)
class Profile:
    """What a comparison runs. ``hold`` is in seconds; ``slots`` None takes the setting."""

    name: str
    about: str
    tasks: int = 100
    calls: int = 3
    hold: float = 2.0
    repeats: int = 3
    slots: int | None = None
    executors: tuple[Executor, ...] = get_args(Executor)
    patterns: tuple[str, ...] = tuple(DAG_OF_PATTERN)
    drivers: tuple[Driver, ...] = ("sync",)


PROFILES = {profile.name: profile for profile in (
    Profile("quick", "one repeat of 30 tasks: does it work here?", tasks=30, repeats=1),
    Profile("default", "100 tasks of 3 calls, 3 repeats of every executor and pattern"),
    Profile("seed", "what the original demo ran: 100 tasks of 1 call, 32 at once", calls=1, slots=32),
    Profile("full", "as default, with 5 repeats and the async driver too", repeats=5, drivers=("sync", "async")),
)}


def named(name: str) -> Profile:
    """Return a profile. Raises BadInput for a name that is none."""
    if name not in PROFILES:
        raise BadInput(f"there is no profile {name!r}", f"take one of {', '.join(PROFILES)}")
    return PROFILES[name]


def executors(names: str) -> tuple[Executor, ...]:
    """Return the executors of a list like ``local,celery``. Raises BadInput for one that is none."""
    return tuple(EXECUTORS[name] for name in _listed(names, list(EXECUTORS), "executor"))


def patterns(names: str) -> tuple[str, ...]:
    """Return the patterns of a list like ``problematic,improved``. Raises BadInput for one that is none."""
    return tuple(_listed(names, list(DAG_OF_PATTERN), "pattern"))


def within(what: str, value: float, least: float, most: float) -> None:
    """Raise BadInput where a number is out of its bounds."""
    if not least <= value <= most:
        raise BadInput(f"{what} is {value:g}", f"give a number from {least:g} to {most:g}")


def cells(profile: Profile) -> list[Cell]:
    """Return the cells that a profile compares."""
    return [Cell(executor=executor, pattern=pattern, tasks=profile.tasks, calls=profile.calls, hold=profile.hold,
                 driver=driver)
            for executor in profile.executors for pattern in profile.patterns for driver in profile.drivers]


def plan(profile: Profile, seed: int) -> list[PlannedRun]:
    """Return the DAG runs in order: a block for each repeat, each block all the cells in a shuffled order.

    The order depends on the seed alone, so that a run can be repeated.
    """
    shuffle = random.Random(seed)       # noqa: S311 - an order, not a secret
    planned: list[PlannedRun] = []
    for block in range(profile.repeats):
        order = cells(profile)
        shuffle.shuffle(order)
        planned += [PlannedRun(index=len(planned) + place, block=block, cell=cell)
                    for place, cell in enumerate(order)]
    return planned


def _listed(names: str, known: Sequence[str], what: str) -> list[str]:
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise BadInput(f"there is no {what} {name!r}", f"take some of {','.join(known)}")
    if not chosen:
        raise BadInput(f"no {what} is named", f"take some of {','.join(known)}")
    return list(dict.fromkeys(chosen))
