"""The event loop that a driver host runs on."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run a host's main coroutine, on uvloop if it is installed: it takes a third less work for each transaction."""
    return _runner()(work)


def _runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    try:
        from uvloop import run as run_on_uvloop  # noqa: PLC0415 - not a requirement; Airflow brings it
    except ImportError:
        return asyncio.run
    return run_on_uvloop
