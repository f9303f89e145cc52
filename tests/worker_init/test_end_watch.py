"""The end of a client that is not read from is noticed, by either loop, whatever stands in front of it."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvloop

from testing.waiting import LIMIT
from worker_init.end_watch import EndWatch, ends_of


@contextmanager
def killed_with(unsent: int) -> Iterator[tuple[socket.socket, Callable[[], None]]]:
    """Give the host's side of a client that has so much to send, and what kills it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pid = os.fork()
        if not pid:
            client = socket.create_connection(listening.getsockname())
            try:
                client.sendall(bytes(unsent))
                signal.pause()
            finally:
                os._exit(0)
        accepted, _ = listening.accept()

        def kill() -> None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

        with accepted:
            yield accepted, kill


FEW, MORE_THAN_FITS = 10, 30_000_000
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("unsent", [FEW, MORE_THAN_FITS])
def test_the_end_of_a_client_is_noticed(unsent: int, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def notice() -> None:
        watch, ended = EndWatch(), asyncio.Event()
        with killed_with(unsent) as (accepted, kill):
            watch.watch(accepted, ended.set)
            assert not watch.is_gone(accepted.fileno())
            kill()
            assert watch.is_gone(accepted.fileno())
            await asyncio.wait_for(ended.wait(), LIMIT)
            watch.close()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(notice())


def test_the_end_of_a_client_that_is_forgotten_is_not_told() -> None:
    async def forget() -> list[str]:
        watch, told = EndWatch(), []
        with killed_with(FEW) as (first, kill_first), killed_with(FEW) as (second, kill_second):
            ended = asyncio.Event()
            watch.watch(first, lambda: told.append("first"))
            watch.watch(second, ended.set)
            watch.forget(first.fileno())
            kill_first()
            kill_second()
            await asyncio.wait_for(ended.wait(), LIMIT)
            watch.close()
        return told
    assert asyncio.run(forget()) == []


def test_an_end_is_told_behind_bytes_that_nobody_has_read() -> None:
    with killed_with(FEW) as (accepted, kill):
        ends = ends_of(accepted.fileno())
        assert not ends(0)
        kill()
        assert ends(0)
