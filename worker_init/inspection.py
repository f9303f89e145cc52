"""The driver host in ``celery inspect stats``, and therefore on Flower's worker page and in Flower's API."""

from itertools import groupby
from operator import itemgetter
from typing import Any

from celery import bootsteps

from worker_init.lifecycle import this_process
from worker_init.measures import upstream_name


class DriverHostStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Shows the host, and ends it in a cold shutdown.

    ``stop()`` leaves the host alone: in a warm shutdown Celery calls it before running tasks have ended.
    """

    name = "worker-init driver host"

    def start(self, _: Any) -> None:
        """Log whether the host serves: ``worker_init`` started it before the worker had a blueprint or a log."""
        this_process.announce()

    def stop(self, _: Any) -> None:
        """Do nothing: running tasks still need the host."""

    def terminate(self, _: Any) -> None:
        """End the host: no task will run to its end any more."""
        this_process.kill()

    def info(self, _: Any) -> dict[str, Any]:
        """Return what is added to ``inspect stats``: lines for people, and the section ``neo4j`` for programs."""
        status = this_process.status() or {"state": "off"}
        return {**lines(status), "neo4j": status}


def lines(status: dict[str, Any]) -> dict[str, str]:
    """Return one line for all drivers together and one for each, in a form that Flower's tab *Other* shows well.

    Flower has a row for each key, in this order. A slot has a driver for each upstream, so the key of its second driver
    ends in ``(2)``. Flower would break a key at a space if a value is as long as the section ``neo4j``, so the keys
    have no-break spaces.
    """
    drivers = status.get("drivers", [])
    found = {"neo4j total": total(status, drivers)}
    name_upstream = len({driver["upstream"] for driver in drivers}) > 1
    for slot, of_slot in groupby(drivers, key=itemgetter("slot")):
        for number, driver in enumerate(of_slot, 1):
            key = f"neo4j slot {slot}" + (f" ({number})" if number > 1 else "")
            found[key] = line(driver, name_upstream=name_upstream)
    return {key.replace(" ", "\N{NO-BREAK SPACE}"): text for key, text in found.items()}


def total(status: dict[str, Any], drivers: list[dict[str, Any]]) -> str:
    """Return one line for all drivers of the worker together."""
    if not drivers:
        return str(status["state"])
    return (f"{status['state']}: connections {_sum(drivers, 'connections', 'open')} open, "
            f"{_sum(drivers, 'connections', 'in_use')} in use ({_sum(drivers, 'connections', 'opened')} opened); "
            f"leases {sum(driver['leases'] for driver in drivers)}, waits {_sum(drivers, 'waits', 'total')}, "
            f"errors {sum(driver['errors'] for driver in drivers)}")


def _sum(drivers: list[dict[str, Any]], part: str, field: str) -> int:
    return sum(driver[part][field] for driver in drivers)


def line(driver: dict[str, Any], *, name_upstream: bool = False) -> str:
    """Return one line for a driver: its pool process comes first, then its upstream if wanted; at the end an error."""
    connections, waits = driver["connections"], driver["waits"]
    who = f"process {' '.join(map(str, driver['processes'])) or 'none'}"
    if name_upstream:
        who += f", {upstream_name(driver['upstream'])}"
    trouble = f"; errors {driver['errors']}, the last: {driver['last_error']}" if driver["last_error"] else ""
    return (f"{who}: {driver['state']}, {connections['open']} open, {connections['in_use']} in use "
            f"({connections['opened']} opened); leases {driver['leases']}, waits {waits['total']} "
            f"(longest {waits['longest_seconds']} s){trouble}")
