"""Whether a process is still running."""

import psutil


def is_alive(pid: int) -> bool:
    """Whether a process with this pid exists and has not ended. A zombie counts as ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:    # also if it ends during this check
        return False
