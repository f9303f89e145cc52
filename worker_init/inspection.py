"""The driver host in ``celery inspect stats``, and so on Flower's worker page and in its API."""

from typing import Any

from celery import bootsteps

from worker_init.lifecycle import this_process


class DriverHostStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Shows the host, and ends it in a cold shutdown.

    ``stop()`` leaves it alone: in a warm shutdown that comes before running tasks have ended.
    """

    name = "worker-init driver host"

    def start(self, _: Any) -> None:
        """Say what became of the host: ``worker_init`` has started it, before there was a blueprint or a log."""
        this_process.announce()

    def stop(self, _: Any) -> None:
        """Do nothing: running tasks still need the host."""

    def terminate(self, _: Any) -> None:
        """End the host: no task will end by itself any more."""
        this_process.kill()

    def info(self, _: Any) -> dict[str, Any]:
        """Return what is merged into ``inspect stats``: lines for a person, and the section ``neo4j`` for a program."""
        status = this_process.status() or {"state": "off"}
        return {**lines(status), "neo4j": status}


def lines(status: dict[str, Any]) -> dict[str, str]:
    """Return a line for all drivers, and one for each, as Flower's tab *Other* shows them well.

    It has a row for each key, in this order. A key may be broken between its words, and would be, beside a value that
    is as long as the section ``neo4j``: its spaces are such as do not break.
    """
    drivers = status.get("drivers", [])
    found = {"neo4j total": total(status, drivers),
             **{f"neo4j slot {driver['slot']}": line(driver) for driver in drivers}}
    return {key.replace(" ", "\N{NO-BREAK SPACE}"): text for key, text in found.items()}


def total(status: dict[str, Any], drivers: list[dict[str, Any]]) -> str:
    """Return what all drivers of the worker come to."""
    if not drivers:
        return str(status["state"])
    return (f"{status['state']}: {_sum(drivers, 'connections', 'open')} connections open, "
            f"{_sum(drivers, 'connections', 'in_use')} in use ({_sum(drivers, 'connections', 'opened')} opened); "
            f"{sum(driver['leases'] for driver in drivers)} leases, {_sum(drivers, 'waits', 'total')} waits, "
            f"{sum(driver['errors'] for driver in drivers)} errors")


def _sum(drivers: list[dict[str, Any]], part: str, field: str) -> int:
    return sum(driver[part][field] for driver in drivers)


def line(driver: dict[str, Any]) -> str:
    """Return a driver's state: its pool process first, and at the end what went wrong."""
    connections, waits = driver["connections"], driver["waits"]
    processes = " ".join(map(str, driver["processes"])) or "none"
    trouble = f"; {driver['errors']} errors, the last: {driver['last_error']}" if driver["last_error"] else ""
    return (f"process {processes}: {driver['state']}, {connections['open']} open, {connections['in_use']} in use "
            f"({connections['opened']} opened); {driver['leases']} leases, {waits['total']} waits "
            f"(longest {waits['longest_seconds']} s){trouble}")
