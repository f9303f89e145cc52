"""Ctrl-C at a moment at which it would leave something behind that nobody stops."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def put_off() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the block has ended.

    For blocks that start or stop processes: if they are interrupted, some processes stay. If the block raises, its
    error is raised and the signal is dropped. Only the main thread receives signals, so in any other thread this does
    nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {number: signal.signal(number, lambda which, _: came.append(which)) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for which in came[:1]:      # a second one would interrupt the handling of the first
        signal.raise_signal(which)
