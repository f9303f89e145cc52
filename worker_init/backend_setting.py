"""The variables that switch on :mod:`worker_init.airflow_connections` in tasks and say where its driver host is."""

import re
from importlib import metadata
from pathlib import Path

BACKEND = "worker_init.airflow_connections.SharedDriverConnections"
SETTING = "AIRFLOW__WORKERS__SECRETS_BACKEND"
# The class that [workers] secrets_backend named before this backend was put in front of it.
WRAPPED = "WORKER_INIT_SECRETS_BACKEND"
FOLDER = "WORKER_INIT_HOST_FOLDER"
SLOT = "WORKER_INIT_SLOT"


def variables(folder: Path, slot: int, users_backend: str) -> dict[str, str]:
    """Return the variables that make tasks ask the host of a runtime folder.

    ``users_backend`` is the class that is configured in ``[workers]``, or empty. Its arguments stay in the
    configuration, where Airflow reads them.
    """
    wrapped = {WRAPPED: users_backend} if users_backend not in ("", BACKEND) else {}
    return {SETTING: BACKEND, FOLDER: str(folder), SLOT: str(slot), **wrapped}


def too_old() -> str:
    """Return why this environment's Airflow is too old for the backend; empty if it is not, or if there is no Airflow.

    In Airflow 3.2 and later, tasks find connections through the parts of ``airflow.sdk`` that the backend uses.
    """
    try:
        version = metadata.version("apache-airflow-core")
    except metadata.PackageNotFoundError:
        return ""
    is_old = [int(number) for number in re.findall(r"\d+", version)[:2]] < [3, 2]
    return f"this package's secrets backend needs Airflow 3.2 or later, and {version} is installed" if is_old else ""
