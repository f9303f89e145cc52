"""The event loop of a host never stands still for long, whatever clients send."""

import json
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from testing.servers import Serving, serving
from tests.worker_init.loop_watch import watched
from tests.worker_init.scripted import Member, servers
from tests.worker_init.stand_in import PULL, RawClient
from worker_init.bolt import Piece, Tag, chunked
from worker_init.packstream import pack

pytestmark = pytest.mark.host

LONGEST_SECONDS = 0.02
FILTERS = {"notifications_minimum_severity": "OFF"}
# What a client has in the one list among its parameters, and how much of it, in bytes.
PARAMETERS = {"numbers": (b"\x01", 60_000_000), "floats": (b"\xc1" + bytes(8), 30_000_000),
              "texts": (b"\x82ab", 30_000_000), "maps": (b"\xa1\x81a\x01", 30_000_000)}


class Thirsty(Member):
    """Takes queries of any size and keeps nothing of them."""

    def take(self, piece: Piece, raw: bytes) -> None:
        if piece.tag != Tag.RUN:
            super().take(piece, raw)
        elif piece.last:
            self.succeed(fields=["x"])


def query(value: bytes, size: int) -> bytes:
    count = size // len(value)
    parameters = b"\xa1" + pack("x") + b"\xd6" + count.to_bytes(4, "big") + value * count
    return chunked(bytes((0xB3, Tag.RUN)) + pack("RETURN 1") + parameters + pack({}))


def send(host: Serving, name: str, hello: dict[str, Any]) -> list[int]:
    with RawClient(host, hello=hello, seconds=300) as client:
        client.send(query(*PARAMETERS[name]) + PULL)
        return [client.read()[0] for _ in range(3)]


def test_no_step_holds_the_loop_for_long_while_clients_send_millions_of_parameters(folder: Path) -> None:
    """Case 24: everybody waited for 35 s. What the relay has to read (filters, a routed upstream) is read in steps."""
    with (servers(Thirsty) as upstream, watched(folder) as report,
          serving(folder / "h", upstream.uri("neo4j"), ("neo4j", "x")) as host, ThreadPoolExecutor(4) as clients):
        with RawClient(host) as first:
            assert first.one() == [Tag.SUCCESS, Tag.RECORD, Tag.SUCCESS]
        host.process.send_signal(signal.SIGUSR2)
        answers = [clients.submit(send, host, name, FILTERS if at % 2 else {}) for at, name in enumerate(PARAMETERS)]
        assert [answer.result() for answer in answers] == [[Tag.SUCCESS, Tag.RECORD, Tag.SUCCESS]] * len(PARAMETERS)
    longest = json.loads(report.read_text())
    assert longest["callbacks"] > 1000
    assert longest["seconds"] <= LONGEST_SECONDS, longest
