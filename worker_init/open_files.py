"""How many files a Celery worker has open at once: its main process has several for each pool process."""

import resource

# Measured with Celery 5.6: 43 with 2 pool processes, 113 with 12. Airflow adds some of its own.
PER_SLOT, OTHERS = 7, 100


def needed(slots: int) -> int:
    """Return how many files the main process of a worker with so many pool processes may need to open."""
    return PER_SLOT * slots + OTHERS


def allowed() -> int | None:
    """Return how many files this process may open; None if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def problem(slots: int) -> str | None:
    """Return what is wrong with the limit for a worker with so many pool processes; None if it is high enough."""
    limit = allowed()
    if limit is None or limit >= needed(slots):
        return None
    return f"{limit} open files are allowed, and a worker of {slots} pool processes needs {needed(slots)}"
