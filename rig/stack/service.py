"""What the stack knows about a service: how it is started, when it serves, how it is stopped."""

import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rig.errors import ServiceDied

Check = Callable[[], str | None]

ENDED = "has ended by itself"
LOOKED_AT, MOST_REASONS, LONGEST = 60, 5, 500       # lines searched, lines shown, characters of each
# The levels in the logs of Airflow, Neo4j and Postgres, and the last line of a traceback of Python or Java.
WHY = re.compile(r"\b(ERROR|CRITICAL|FATAL|PANIC)\b|\[error|^Caused by: |^[\w.]*(Error|Exception)\b|\berror: "
                 r"|^# (Can't|Fatal|Out of)|Out of memory|\bOOM\b")


@dataclass(frozen=True, kw_only=True)
class Service:
    """One program of the stack.

    ``check`` returns None once the service really serves, else the reason why it does not yet. It never raises for a
    service that is merely starting. ``stop_timeout`` is in seconds.
    """

    name: str
    command: Sequence[str | Path]
    env: Mapping[str, str] = field(repr=False)
    cwd: Path
    check: Check
    url: str | None = None
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 20


def reasons(log: Path) -> str:
    """Return the lines at the end of a service's log that say why it ended, at most five; empty if none does."""
    lines = last_lines(log, LOOKED_AT).splitlines()
    return "\n".join([line[:LONGEST] for line in lines if WHY.search(line)][-MOST_REASONS:])


def death(names: Sequence[str], log: Path, remedy: str | None = None) -> ServiceDied:
    """Return the error for services that have ended by themselves. ``log`` is the first one's, which is the reason."""
    first, *others = names
    so_have = f" (so have {', '.join(others)})" if others else ""
    return ServiceDied(f"{first} {ENDED}{so_have}; its log: {log}", remedy, reasons(log))


def last_lines(log: Path, count: int = 12) -> str:
    """Return the end of a service's log, for a message that names the service."""
    if not log.exists():
        return "(it wrote no log)"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-count:]) or "(its log is empty)"
