"""The variables that switch on :mod:`worker_init.airflow_connections` in tasks and lead it to its driver host."""

from pathlib import Path

BACKEND = "worker_init.airflow_connections.SharedDriverConnections"
SETTING = "AIRFLOW__WORKERS__SECRETS_BACKEND"
# The class that [workers] secrets_backend named before this one took its place.
WRAPPED = "WORKER_INIT_SECRETS_BACKEND"
FOLDER = "WORKER_INIT_HOST_FOLDER"
SLOT = "WORKER_INIT_SLOT"


def variables(folder: Path, slot: int, users_backend: str) -> dict[str, str]:
    """Return the variables for tasks that are to ask the host of a runtime folder.

    ``users_backend`` is the class that is configured in ``[workers]``, or empty. Its arguments stay where they are
    configured: Airflow reads them and hands them over.
    """
    wrapped = {WRAPPED: users_backend} if users_backend not in ("", BACKEND) else {}
    return {SETTING: BACKEND, FOLDER: str(folder), SLOT: str(slot), **wrapped}
