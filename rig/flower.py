"""What Flower's API says about the Celery workers: the section ``neo4j`` that ``worker_init`` adds to their stats."""

from typing import Any

import httpx

from rig.errors import RigError

SECONDS = 12.0      # Flower asks every worker, and waits for those that do not answer

Inspected = dict[str, dict[str, Any]]


def drivers(url: str, login: tuple[str, str]) -> Inspected:
    """Return the section ``neo4j`` of each worker's ``inspect stats``, by the worker's name.

    Raises RigError if Flower does not answer.
    """
    try:
        answer = httpx.get(f"{url}/api/workers", params={"refresh": "true"}, auth=login, timeout=SECONDS,
                           trust_env=False)
        answer.raise_for_status()
        workers: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise RigError(f"Flower at {url} gives no information about the workers: {error or type(error).__name__}",
                       "`rig logs flower` shows its log") from error
    return {name: worker.get("stats", {}).get("neo4j", {"state": "not loaded"}) for name, worker in workers.items()}
