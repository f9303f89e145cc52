"""What can go wrong in this package, as types that a caller can tell apart."""

from typing import Any

# Neo4j's own code for "everything that could serve you is busy": a client's driver retries it.
EXHAUSTED = "Neo.TransientError.Request.NoThreadsAvailable"
# Their class at the client is DatabaseUnavailable, a TransientError: worth a retry.
UNREACHABLE = "Neo.TransientError.General.DatabaseUnavailable"


class WorkerInitError(Exception):
    """Base of every error that this package raises itself."""


class BadSetting(WorkerInitError):
    """A setting cannot be used; the message names the variable, never its value where it is secret."""


class ProtocolViolation(WorkerInitError):
    """A peer sent what Bolt does not allow, or more than this side is ready to hold."""


class UnfitDriver(WorkerInitError):
    """The installed Neo4j driver cannot be used as an upstream: its inside is not what was tested."""


class UpstreamFailure(WorkerInitError):
    """No upstream connection is to be had: Neo4j's own failure where it gave one, else the cause.

    ``code`` is a Neo4j status code, so that a client's driver raises its own error class and knows
    whether a retry makes sense.
    """

    def __init__(self, code: str, message: str, *, gql_status: str = "50N42",
                 description: str = "error: general processing exception - unexpected error. "
                                    "Unexpected error has occurred. See debug log for details.",
                 diagnostic_record: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.gql_status = gql_status
        self.description = description
        self.diagnostic_record = diagnostic_record or {}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> "UpstreamFailure":
        """Return what a server has said in a FAILURE, before Bolt 5.7 or since."""
        named = {"gql_status": fields.get("gql_status"), "description": fields.get("description"),
                 "diagnostic_record": fields.get("diagnostic_record")}
        return cls(str(fields.get("neo4j_code") or fields.get("code") or ""), str(fields.get("message") or ""),
                   **{key: value for key, value in named.items() if value})


class ServerFault(WorkerInitError):
    """A server answered what Bolt does not allow at that point. It costs the one lease that it happened in."""


class Unforeseen(WorkerInitError):
    """A fault of this package: something happened in a state in which nobody thought of it."""
