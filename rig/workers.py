"""The driver of each Celery worker process, as reported by the workers themselves through Flower's API."""

from collections.abc import Callable, Iterator
from typing import Any

from rich.table import Table

from rig import flower
from rig.console import figures_table
from rig.errors import BadInput
from rig.flower import Inspected
from rig.report import phrases
from rig.settings import Settings
from rig.stack.airflow import reachable
from rig.stack.state import StackState


def inspect(settings: Settings, state: StackState) -> Inspected:
    """Return the section ``neo4j`` of each worker's ``inspect stats``, by the worker's name.

    Raises BadInput if no Celery worker is running, RigError if Flower does not answer.
    """
    if state.executor != "CeleryExecutor":
        raise BadInput("the stack runs on LocalExecutor, which has no Celery workers", "`rig switch celery` starts one")
    login = (settings.airflow_username, state.secrets.flower.get_secret_value())
    return flower.drivers(f"http://{reachable(settings.host)}:{state.ports['flower']}", login)


def tables(found: Inspected) -> Iterator[Table]:
    """Yield a table for each worker, with a row for each driver: its process, and what it has done so far."""
    for name, section in sorted(found.items()):
        drivers = section.get("drivers", [])
        made = figures_table(title=_heading(name, section), title_justify="left", show_footer=True)
        totals = [sum(of(driver) for driver in drivers) for _, of in _COUNTS]
        made.add_column("process", footer="all")
        made.add_column("driver")
        for (title, _), total in zip(_COUNTS, totals, strict=True):
            made.add_column(title, justify="right", footer=str(total))
        made.add_column("longest\nwait, s", justify="right",
                        footer=str(max((driver["waits"]["longest_seconds"] for driver in drivers), default=0)))
        for driver in drivers:
            made.add_row(" ".join(map(str, driver["processes"])) or phrases.NOTHING, driver["state"],
                         *[str(of(driver)) for _, of in _COUNTS], str(driver["waits"]["longest_seconds"]))
        yield made


def problems(found: Inspected) -> list[str]:
    """Return a line for each driver that has an error to report."""
    return [f"{name}, driver {driver['slot']}: {driver['last_error']}"
            for name, section in sorted(found.items()) for driver in section.get("drivers", [])
            if driver["last_error"]]


def _heading(name: str, section: dict[str, Any]) -> str:
    upstreams = ", ".join(dict.fromkeys(driver["upstream"] for driver in section.get("drivers", [])))
    scope = f", scope {section['scope']}" if "scope" in section else ""
    return f"{name}: {section['state']}{scope}{f', to {upstreams}' if upstreams else ''}"


_COUNTS: tuple[tuple[str, Callable[[dict[str, Any]], int]], ...] = (
    ("open", lambda driver: driver["connections"]["open"]),
    ("opened", lambda driver: driver["connections"]["opened"]),
    ("in use", lambda driver: driver["connections"]["in_use"]),
    ("leases", lambda driver: driver["leases"]),
    ("waits", lambda driver: driver["waits"]["total"]),
    ("clients", lambda driver: driver["clients"]["total"]),
    ("errors", lambda driver: driver["errors"]),
)
