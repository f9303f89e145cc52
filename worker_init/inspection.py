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
        """Return what is merged into ``inspect stats``: the section ``neo4j``, and a line for each driver."""
        status = this_process.status() or {"state": "off"}
        return {**{f"neo4j driver {number}": line(driver) for number, driver in enumerate(status.get("drivers", []))},
                "neo4j": status}


def line(driver: dict[str, Any]) -> str:
    """Return a driver's state for a person: Flower shows every key on a line of its own, and nothing nested."""
    connections, waits = driver["connections"], driver["waits"]
    processes = " ".join(map(str, driver["processes"])) or "none"
    trouble = f"; {driver['errors']} errors, the last: {driver['last_error']}" if driver["last_error"] else ""
    return (f"process {processes}: {driver['state']}, {connections['open']} open, {connections['opened']} opened, "
            f"{connections['in_use']} in use, {driver['leases']} leases, {waits['total']} waits (longest "
            f"{waits['longest_seconds']} s), {driver['clients']['total']} clients{trouble}")
