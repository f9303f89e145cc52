"""Who may use a relay."""

import socket
from pathlib import Path
from typing import BinaryIO

import pytest

from testing.servers import Serving, serving
from worker_init.bolt import Tag, message
from worker_init.handshake import MAGIC

pytestmark = pytest.mark.host

# The first bytes of a message of a few bytes: its length, and a structure of one field.
_SUCCESS, _FAILURE = b"\xb1\x70", b"\xb1\x7f"


def answer_to(host: Serving, username: str, password: str) -> bytes:
    """Return the structure that LOGON is answered with."""
    with socket.create_connection(("127.0.0.1", host.port), timeout=60) as sock, sock.makefile("rb") as answers:
        sock.sendall(MAGIC + b"\x00\x00\x08\x05" + b"\x00" * 12 + message(Tag.HELLO, {}) + message(
            Tag.LOGON, {"scheme": "basic", "principal": username, "credentials": password}))
        assert answers.read(4) == b"\x00\x00\x08\x05"
        assert read_message(answers)[:2] == _SUCCESS
        return read_message(answers)[:2]


def read_message(answers: BinaryIO) -> bytes:
    """Return a message of one chunk."""
    size = int.from_bytes(answers.read(2), "big")
    return bytes(answers.read(size + 2)[:size])


@pytest.mark.parametrize("of_the_upstream", [("", ""), ("neo4j", "")])
def test_an_upstream_that_asks_for_no_password_does_not_make_an_open_relay(
        of_the_upstream: tuple[str, str], agreeing: str, tmp_path: Path) -> None:
    with serving(tmp_path, agreeing, of_the_upstream) as host:
        for given in (("", ""), ("neo4j", "")):
            assert answer_to(host, *given) == _FAILURE
        assert answer_to(host, *host.auth) == _SUCCESS


def test_the_credentials_of_the_upstream_are_good_for_the_relay(agreeing: str, tmp_path: Path) -> None:
    with serving(tmp_path, agreeing, ("someone", "secret")) as host:
        assert answer_to(host, "someone", "secret") == _SUCCESS
        assert answer_to(host, "someone", "") == _FAILURE
