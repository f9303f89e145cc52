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
        """Return the section that is merged into ``inspect stats``."""
        return {"neo4j": this_process.status() or {"state": "off"}}
