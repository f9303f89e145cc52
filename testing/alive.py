"""Whether a process is still at work."""

import psutil


def is_alive(pid: int) -> bool:
    """Say whether there is a process of this number that has not ended; one that nobody has waited for has."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:    # also where it ends while it is asked
        return False
