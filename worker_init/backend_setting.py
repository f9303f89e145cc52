"""The variables that switch on :mod:`worker_init.airflow_connections` in tasks and lead it to its driver host."""

import re
from importlib import metadata
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


def too_old() -> str:
    """Return why the Airflow of this environment cannot have the backend; empty where it can, or where there is none.

    Airflow 3.2 is the first where tasks find connections through the parts of ``airflow.sdk`` that the backend uses.
    """
    try:
        version = metadata.version("apache-airflow-core")
    except metadata.PackageNotFoundError:
        return ""
    is_old = [int(number) for number in re.findall(r"\d+", version)[:2]] < [3, 2]
    return f"this package's secrets backend needs Airflow 3.2 or later, and {version} is installed" if is_old else ""
