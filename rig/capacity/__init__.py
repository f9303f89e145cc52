"""Capacity planning: what a deployment will do to Neo4j, computed before it is built.

:func:`forecast` computes what each way to get a driver does under a :class:`Load`; :func:`errors_of` compares this with
a comparison that was run. These are pure functions. The law is in :mod:`rig.capacity.law`, and its theory in
:mod:`rig.capacity.queueing`.
"""

from pathlib import Path

from rig import runs
from rig.capacity import tables
from rig.capacity.against import Row, rows
from rig.capacity.law import WAYS, Forecast, Load, Way, forecast
from rig.errors import BadInput

__all__ = ["WAYS", "Forecast", "Load", "Row", "Way", "errors_of", "forecast", "rows", "tables", "ways"]

SCOPES: tuple[Way, ...] = ("process", "shared")
_OF_PATTERN: dict[str, tuple[Way, ...]] = {
    "problematic": ("problematic",), "improved": ("improved",), "hook": ("improved",), "worker": SCOPES}


def ways(pattern: str | None, scope: str | None) -> tuple[Way, ...]:
    """Return the ways that a pattern and a scope allow; without both, all. Raises BadInput for an unknown name."""
    if pattern is not None and pattern not in _OF_PATTERN:
        raise BadInput(f"--pattern is {pattern!r}", f"choose one of {', '.join(_OF_PATTERN)}")
    if scope is not None and scope not in SCOPES:
        raise BadInput(f"--scope is {scope!r}", f"choose one of {', '.join(SCOPES)}")
    of_pattern = WAYS if pattern is None else _OF_PATTERN[pattern]
    left = tuple(way for way in of_pattern if scope in {None, way} or way not in SCOPES)
    if scope is not None and scope not in left:
        raise BadInput(f"--scope is {scope!r} and --pattern {pattern!r}", "only the pattern worker has a scope")
    return left


def errors_of(data_dir: Path, run: str, load: Load) -> list[Row]:
    """Return the law's error for each cell of a comparison. Raises BadInput if there is none or it is empty."""
    folder = runs.find(data_dir, run)

    from rig import metrics  # noqa: PLC0415 - takes most of a second, and a mere forecast needs none of it

    found = rows(metrics.summarise(folder), load)
    if not found:
        raise BadInput(f"{folder} has no cell that was measured", "run `rig compare`, or choose another run")
    return found
