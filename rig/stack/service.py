"""What the stack knows of a service: how it is started, when it serves, how it is stopped."""

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Check = Callable[[], str | None]


@dataclass(frozen=True, kw_only=True)
class Service:
    """One program of the stack.

    ``check`` returns None once the service really serves, else the reason why it does not yet; it
    never raises for a service that is merely starting. ``stop_timeout`` is in seconds.
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


def last_lines(log: Path, count: int = 12) -> str:
    """Return the end of a service's log, for a message that names the service."""
    if not log.exists():
        return "(it wrote no log)"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-count:]) or "(its log is empty)"
