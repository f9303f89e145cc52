"""Errors of Neo4j and its driver: as one line, and what they are about."""

from neo4j.exceptions import AuthError, DriverError, Forbidden, Neo4jError

SERVER_ERRORS = (DriverError, Neo4jError, OSError)
UNTRUSTED = "its certificate is not accepted: check the address; if that is right, "
TO_TRUST_IT = "install the certificate's authority, or set SSL_CERT_FILE"


def one_line(error: BaseException) -> str:
    """Return an error of the server or the driver as one line, including the causes that the driver has collected.

    With ``neo4j://`` the driver's own message only says that there is no routing table. The reason, for example a
    certificate that cannot be verified, is in the group of errors that caused it.
    """
    said = " ".join((getattr(error, "message", None) or str(error)).split())
    if not isinstance(error.__cause__, BaseExceptionGroup):
        return said
    return f"{said}: {'; '.join(dict.fromkeys(map(one_line, error.__cause__.exceptions)))}"


def refuses_user(error: Exception) -> bool:
    """Return whether the server does not accept the user and password.

    After too many wrong passwords it locks the user out for a while. The driver has no class for that error, and only
    its code tells it from a query that is wrong. ``Forbidden`` is a user who is known and lacks a right.
    """
    if isinstance(error, AuthError):
        return True
    return (isinstance(error, Neo4jError) and not isinstance(error, Forbidden)
            and (error.code or "").startswith("Neo.ClientError.Security."))


def how_to_reach(said: str, otherwise: str, to_trust_it: str = TO_TRUST_IT) -> str:
    """Return what to do about a server that cannot be reached: ``otherwise``, unless its certificate is the reason."""
    return UNTRUSTED + to_trust_it if "SSLCertVerificationError" in said else otherwise
