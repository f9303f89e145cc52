"""Profiles: a name for what is compared, and how often."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

from patterns.facts import DAG_OF_PATTERN, EXECUTOR_OF_NAME, EXECUTORS, Executor
from rig.errors import BadInput
from rig.records import EXHIBIT, RELAYS, Cell, PlannedRun, Relay, relay_on

Driver = Literal["sync", "async"]
Where = tuple[str, Executor]        # a pattern on an executor

# The shared drivers through which a pattern can reach the server. Other patterns always connect to NEO4J_URI.
RELAYS_OF_PATTERN: dict[str, tuple[Relay, ...]] = {
    "worker": ("process", "shared"), "hook": RELAYS}
SYNC_ONLY = ("hook", EXHIBIT)
PRELOADS = {"off": False, "on": True}
MOST_REPEATS = 100


@dataclass(frozen=True)
class Profile:
    """What a comparison runs.

    ``hold`` is in seconds. If ``slots`` is None, the setting is used. ``relays`` are tried with the patterns that can
    use one: each of them cold, and those in ``warm`` a second time on the same scheduler and workers. Cells in
    ``control`` are run cold twice in each block. All of this is run for each of ``preloads``: with modules preloaded,
    or not. Cells in ``once`` are not repeated, and those in ``left_out`` are not run. A DAG run is watched for
    remaining connections for ``observe`` seconds after its last task.
    """

    name: str
    about: str
    tasks: int = 100
    calls: int = 3
    hold: float = 2.0
    repeats: int = 3
    slots: int | None = None
    executors: tuple[Executor, ...] = EXECUTORS
    patterns: tuple[str, ...] = ("problematic", "improved", "hook", "worker")
    relays: tuple[Relay, ...] = ("none", "process")
    warm: tuple[Where, ...] = (("problematic", "CeleryExecutor"), ("improved", "CeleryExecutor"),
                               ("worker", "CeleryExecutor"))
    control: tuple[Where, ...] = ()
    once: tuple[Where, ...] = ()
    left_out: tuple[Where, ...] = ()
    hook_relays: tuple[Relay, ...] = RELAYS     # the relays that are tried with the stock hook
    drivers: tuple[Driver, ...] = ("sync",)
    preloads: tuple[bool, ...] = (False,)
    observe: float = 6.0


_PLAIN = ("problematic", "improved")

PROFILES = {profile.name: profile for profile in (
    Profile("quick", "one repeat of 30 tasks, to see whether it works here", tasks=30, repeats=1,
            patterns=("problematic", "improved", "worker"), warm=(("worker", "CeleryExecutor"),)),
    Profile("default",
            "100 tasks of 3 calls, 3 repeats of each cell on celery, cold and warm (one for hook, and on local)",
            once=(("hook", "CeleryExecutor"), *((pattern, "LocalExecutor") for pattern in (*_PLAIN, "worker"))),
            left_out=(("hook", "LocalExecutor"),), hook_relays=("none",)),
    Profile("seed", "what the original demo ran: 100 tasks of 1 call, 32 at once", calls=1, slots=32, patterns=_PLAIN,
            warm=()),
    Profile("full", "6 repeats of every cell, for verdicts, with every relay, cold and warm, in one to two hours",
            repeats=6, relays=RELAYS, warm=tuple(product((*_PLAIN, "worker", "hook"), EXECUTORS)),
            control=tuple(product(("problematic",), EXECUTORS)), left_out=(("hook", "LocalExecutor"),),
            hook_relays=("none", "process"), observe=31.0),
    Profile("async", "3 repeats with the async driver and with the sync one", patterns=(*_PLAIN, "worker"), warm=(),
            drivers=("sync", "async")),
    Profile("preload", "what importing modules before the fork saves, 6 repeats of 60 tasks with and without it, in "
            "about 25 minutes", tasks=60, hold=1.0, repeats=6, patterns=("improved", "worker"), warm=(),
            left_out=(("worker", "LocalExecutor"),), preloads=(False, True)),
)}


def named(name: str) -> Profile:
    """Return a profile. Raises BadInput if there is none of this name."""
    if name not in PROFILES:
        raise BadInput(f"there is no profile {name!r}", f"choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def executors(names: str) -> tuple[Executor, ...]:
    """Return the executors of a list like ``local,celery``. Raises BadInput for an unknown one."""
    return tuple(EXECUTOR_OF_NAME[name] for name in _listed(names, list(EXECUTOR_OF_NAME), "executor"))


def patterns(names: str) -> tuple[str, ...]:
    """Return the patterns of a list like ``problematic,improved``. Raises BadInput for an unknown one."""
    return tuple(_listed(names, list(DAG_OF_PATTERN), "pattern"))


def is_nameless(pattern: str, relay: Relay | None) -> bool:
    """Return whether a pattern's connections name the driver alone, and not who has opened them.

    The stock hook has no user agent of ours, unless a shared driver opens its connections. A relay that is not known
    (None) counts as no relay.
    """
    return pattern == "hook" and relay in {None, "none"}


def within(what: str, value: float, least: float, most: float) -> None:
    """Raise BadInput if a number is outside its bounds."""
    if not least <= value <= most:
        raise BadInput(f"{what} is {value:g}", f"give a number from {least:g} to {most:g}")


def relays(names: str) -> tuple[Relay, ...]:
    """Return the relays of a list like ``none,process``. Raises BadInput for an unknown one."""
    chosen = _listed(names, RELAYS, "relay")
    return tuple(relay for relay in RELAYS if relay in chosen)


def preloads(names: str) -> tuple[bool, ...]:
    """Return whether modules are preloaded, of a list like ``on,off``. Raises BadInput for a word that is neither."""
    chosen = _listed(names, list(PRELOADS), "preload setting")
    return tuple(preload for name, preload in PRELOADS.items() if name in chosen)


def cells(profile: Profile) -> list[Cell]:
    """Return the cells that a profile compares. Raises BadInput if none is left of what was asked for."""
    found = [cell for group in _groups(profile, 0) for cell in group]
    if not found:
        raise BadInput(f"no cell is left of {','.join(profile.patterns)} with relay {','.join(profile.relays)}",
                       "the pattern worker needs a relay: add process or shared to --relays")
    return found


def plan(profile: Profile, seed: int) -> list[PlannedRun]:
    """Return the DAG runs in order: a block for each repeat, each block with all cells in a shuffled order.

    A warm cell comes directly after its cold one, on the same workers. The order depends only on the seed, so that a
    run can be repeated. Raises BadInput if there is no cell.
    """
    cells(profile)
    shuffle = random.Random(seed)       # noqa: S311 - an order, not a secret
    planned: list[PlannedRun] = []
    for block in range(profile.repeats):
        groups = list(_groups(profile, block))
        shuffle.shuffle(groups)
        order = [cell for group in groups for cell in group]
        planned += [PlannedRun(index=len(planned) + place, block=block, cell=cell)
                    for place, cell in enumerate(order)]
    return planned


def _groups(profile: Profile, block: int) -> Iterator[list[Cell]]:
    """Yield the cells of a block; cells that must follow each other are together."""
    skipped = {*profile.left_out, *(profile.once if block else ())}
    for executor, pattern, driver in product(profile.executors, profile.patterns, profile.drivers):
        if (pattern, executor) in skipped or (driver == "async" and pattern in SYNC_ONLY):
            continue
        for relay, preload in product(_relays(executor, pattern, _asked(profile, pattern)), profile.preloads):
            cold = Cell(executor=executor, pattern=pattern, relay=relay, tasks=profile.tasks, calls=profile.calls,
                        hold=profile.hold, driver=driver, preload=preload)
            is_warmed = (pattern, executor) in profile.warm
            yield [cold, cold.model_copy(update={"warm": True})] if is_warmed else [cold]
            if (pattern, executor) in profile.control:
                yield [cold.model_copy(update={"control": True})]


def _asked(profile: Profile, pattern: str) -> Sequence[Relay]:
    return [relay for relay in profile.relays if pattern != "hook" or relay in profile.hook_relays]


def _relays(executor: Executor, pattern: str, asked: Sequence[Relay]) -> list[Relay]:
    """Return the relays of a pattern on an executor: LocalExecutor has no pool processes, but one driver for all."""
    if pattern == EXHIBIT and executor == "LocalExecutor":
        return []
    known = RELAYS_OF_PATTERN.get(pattern)
    if known is None:
        return ["none"]
    return list(dict.fromkeys(relay_on(executor, relay) for relay in asked if relay in known))


def _listed(names: str, known: Sequence[str], what: str) -> list[str]:
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise BadInput(f"there is no {what} {name!r}", f"choose from {','.join(known)}")
    if not chosen:
        raise BadInput(f"no {what} is named", f"choose from {','.join(known)}")
    return list(dict.fromkeys(chosen))
