"""What an error of the server is about."""

import pytest
from neo4j.exceptions import AuthError, Forbidden, Neo4jError, ServiceUnavailable

from patterns.server_errors import TO_TRUST_IT, UNTRUSTED, how_to_reach, one_line, refuses_user


def of_code(code: str) -> Neo4jError:
    """Return the error that the driver makes of a server's answer."""
    error = Neo4jError._basic_hydrate(neo4j_code=code, message="said by the server")
    assert error.code == code
    return error


@pytest.mark.parametrize("error", [
    AuthError("unauthorized"), of_code("Neo.ClientError.Security.Unauthorized"),
    of_code("Neo.ClientError.Security.AuthenticationRateLimit"),
    of_code("Neo.ClientError.Security.CredentialsExpired")])
def test_a_user_who_is_not_accepted_or_locked_out_is_refused(error: Exception) -> None:
    assert refuses_user(error)


@pytest.mark.parametrize("error", [
    Forbidden("a right is missing"), of_code("Neo.ClientError.Security.Forbidden"),
    of_code("Neo.ClientError.Database.DatabaseNotFound"), of_code("Neo.TransientError.General.DatabaseUnavailable"),
    ServiceUnavailable("down"), OSError("refused")])
def test_a_missing_right_or_a_server_that_is_down_does_not_refuse_the_user(error: Exception) -> None:
    assert not refuses_user(error)


def test_a_certificate_that_is_not_trusted_is_what_to_look_at() -> None:
    error = ServiceUnavailable("no routing table")
    error.__cause__ = ExceptionGroup("all", [ServiceUnavailable("[SSLCertVerificationError]\nConnection Failed.")])

    assert how_to_reach(one_line(error), "check the address") == UNTRUSTED + TO_TRUST_IT
    assert how_to_reach(one_line(error), "check the address", "ask its owner") == UNTRUSTED + "ask its owner"
    assert how_to_reach("connection refused", "check the address") == "check the address"
