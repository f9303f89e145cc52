"""Errors for people: one line, with how to fix the problem."""

# Exit codes of a command.
BROKEN, BAD_INPUT, INTERRUPTED = 1, 2, 130


class RigError(Exception):
    """An error that the user can understand: what went wrong, and what to do about it.

    The command line prints ``what — remedy`` on one line and exits with ``exit_code``. ``detail`` has further lines,
    for example those of a log that say why.
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
    """The user's input or the state of the machine does not allow this; nothing was started."""

    exit_code = BAD_INPUT


class ServiceDied(RigError):
    """A service of the stack ended by itself."""


class WorkerNotServing(RigError):
    """The Celery worker takes no tasks, or does not answer: waiting tasks would wait forever."""


class RelayMissing(RigError):
    """Tasks would not go through the requested relay, so their figures would belong to another cell."""


class Hung(RigError):
    """Something did not end within its limit."""
