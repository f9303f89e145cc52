"""What a server may answer to the probe instead of an answer."""

from neo4j.exceptions import DriverError, Neo4jError

SERVER_ERRORS = (DriverError, Neo4jError, OSError)


def one_line(error: Exception) -> str:
    """Return an error of the server or the driver as one line."""
    return " ".join((getattr(error, "message", None) or str(error)).split())
