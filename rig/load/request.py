"""What a comparison of loads is asked for, and what it must be: judged before anything that takes time is imported."""

from patterns.facts import LONGEST_HOLD, MOST_CALLS, MOST_TASKS, Executor
from rig.errors import BadInput
from rig.experiment import profiles
from rig.load.records import Arrivals, LoadPlan
from rig.load.schedule import ARRIVALS
from rig.records import EXHIBIT


class Request(LoadPlan):
    """What the user asked for."""

    executors: tuple[Executor, ...]
    patterns: tuple[str, ...]


def require_bounds(request: Request) -> None:
    """Raise BadInput, one line that names the option, if no DAG run can have these values."""
    for what, value, most in (("--tasks", request.tasks, MOST_TASKS), ("--calls", request.calls, MOST_CALLS)):
        profiles.within(what, value, 1, most)
    profiles.within("--hold", request.hold, 0, LONGEST_HOLD)
    profiles.within("--repeats", request.repeats, 1, profiles.MOST_REPEATS)
    if request.saturated_seconds:
        profiles.within("--saturated-time", request.saturated_seconds, 5, 3600)


def arrivals(name: str) -> Arrivals:
    """Return how DAG runs should arrive. Raises BadInput for an unknown name."""
    for known in ARRIVALS:
        if name == known:
            return known
    raise BadInput(f"--arrivals is {name!r}", f"choose one of {', '.join(ARRIVALS)}")


def patterns(names: str) -> tuple[str, ...]:
    """Return the patterns of a list like ``problematic,improved``. Raises BadInput for one that cannot be loaded."""
    chosen = profiles.patterns(names)
    if EXHIBIT in chosen:
        raise BadInput(f"{EXHIBIT} breaks, and has no rate that holds", f"leave {EXHIBIT} out")
    return chosen
