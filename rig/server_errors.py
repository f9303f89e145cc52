"""Errors of Neo4j and its driver, put into one line."""

from neo4j.exceptions import DriverError, Neo4jError

SERVER_ERRORS = (DriverError, Neo4jError, OSError)


def one_line(error: BaseException) -> str:
    """Return an error of the server or the driver as one line, including the causes that the driver has collected.

    With ``neo4j://`` the driver's own message only says that there is no routing table. The reason, for example a
    certificate that cannot be verified, is in the group of errors that caused it.
    """
    said = " ".join((getattr(error, "message", None) or str(error)).split())
    if not isinstance(error.__cause__, BaseExceptionGroup):
        return said
    return f"{said}: {'; '.join(dict.fromkeys(map(one_line, error.__cause__.exceptions)))}"
