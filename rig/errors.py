"""Errors that are meant for a person: one line, with how to fix it."""

# Exit codes of a command.
BROKEN, BAD_INPUT, INTERRUPTED = 1, 2, 130


class RigError(Exception):
    """Something went wrong that the user can understand: what it is, and what to do about it.

    The command line prints ``what (remedy)`` on one line and exits with ``exit_code``. ``detail`` are lines that
    follow it, such as those of a log that say why.
    """

    exit_code = BROKEN

    def __init__(self, what: str, remedy: str | None = None, detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy
        self.detail = detail

    def __str__(self) -> str:
        line = f"{self.what} — {self.remedy}" if self.remedy else self.what
        return f"{line}\n{self.detail}" if self.detail else line


class BadInput(RigError):
    """What the user gave, or the machine as it stands, does not allow this; nothing was started."""

    exit_code = BAD_INPUT


class ServiceDied(RigError):
    """A service of the stack ended by itself."""


class WorkerIdle(RigError):
    """The Celery worker answers, has room, and takes no tasks: those that wait would do so forever."""


class RelayMissing(RigError):
    """Tasks would not go through the relay that was asked for: figures would be those of another cell."""


class Hung(RigError):
    """Something did not end within its limit."""
