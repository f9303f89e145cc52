"""The errors of this package, as types that a caller can tell apart."""

from typing import Any

# Neo4j's own code for "everything that could serve you is busy". A client's driver retries it.
EXHAUSTED = "Neo.TransientError.Request.NoThreadsAvailable"
# The driver raises DatabaseUnavailable for these, a TransientError, which is worth a retry.
UNREACHABLE = "Neo.TransientError.General.DatabaseUnavailable"


class WorkerInitError(Exception):
    """Base of every error that this package raises itself."""


class BadSetting(WorkerInitError):
    """A setting cannot be used. The message names the variable, but never a secret value."""


class ProtocolViolation(WorkerInitError):
    """A peer sent what Bolt does not allow, or more than this side is ready to hold."""


class UnfitDriver(WorkerInitError):
    """The installed Neo4j driver cannot be used as an upstream: its internals are not the tested ones."""


class SelfTestNotRun(WorkerInitError):
    """The self-test of the driver could not be completed. This says nothing about the driver."""


class UpstreamFailure(WorkerInitError):
    """No upstream connection is available. It holds Neo4j's own failure if Neo4j gave one, else the cause.

    ``code`` is a Neo4j status code, so that a client's driver raises its own error class and knows whether to retry.
    """

    def __init__(self, code: str, message: str, *, gql_status: str = "50N42",
                 description: str = "error: general processing exception - unexpected error. "
                                    "Unexpected error has occurred. See debug log for details.",
                 diagnostic_record: dict[str, Any] | None = None, cause: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.gql_status = gql_status
        self.description = description
        self.diagnostic_record = diagnostic_record or {}
        self.cause = cause

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "UpstreamFailure":
        """Return the failure that a server sent in a FAILURE, in the form before Bolt 5.7 or since."""
        named = {"gql_status": fields.get("gql_status"), "description": fields.get("description"),
                 "diagnostic_record": fields.get("diagnostic_record")}
        return cls(str(fields.get("neo4j_code") or fields.get("code") or ""), str(fields.get("message") or ""),
                   **{key: value for key, value in named.items() if value})


class TooOld(UpstreamFailure):
    """A server's Bolt is too old to be shared. The message names the versions that are new enough."""


class ServerFault(WorkerInitError):
    """A server sent an answer that Bolt does not allow at that point. It ends only the lease in which it happened."""


class Unforeseen(WorkerInitError):
    """A bug in this package: an event came in a state in which it was not expected."""


# The errors that a driver with other internals raises, directly or as the cause of its own error.
_OF_THE_DRIVER = (UnfitDriver, ProtocolViolation, AttributeError, TypeError, NameError, LookupError, ValueError,
                  AssertionError, ImportError, NotImplementedError)


def is_of_the_driver(error: BaseException) -> bool:
    """Whether an error in the driver's self-test is due to the driver, and not to the machine."""
    causes = [error]
    while (cause := causes[-1].__cause__) and cause not in causes:
        causes.append(cause)
    if any(isinstance(cause, (OSError, MemoryError)) or _is_of_the_loader(cause) for cause in causes):
        return False
    return any(isinstance(cause, _OF_THE_DRIVER) for cause in causes)


def _is_of_the_loader(error: BaseException) -> bool:
    """Whether a library could not be loaded, for example for lack of memory. A missing module does not count."""
    return (isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError)
            and "cannot import name" not in str(error))
