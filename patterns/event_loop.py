"""The event loop of the process, for async drivers used from code that is not async.

An async driver belongs to the loop in which it was opened. Calling ``asyncio.run()`` each time ends that loop, and with
it every cached driver. This is why caching async drivers so often does not work.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from patterns.per_process import PerProcess

T = TypeVar("T")


def _close(runner: asyncio.Runner) -> None:
    # Not runner.close(): it starts a thread to end the executor's threads, and from Python 3.12 on no thread can be
    # started while the interpreter exits.
    runner.get_loop().close()


_RUNNER = PerProcess(asyncio.Runner, _close)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine in the process's loop and return its result.

    The loop lasts until the process exits. Drivers that were opened in it are closed first, because functions
    registered with atexit run in reverse order, and the loop's is registered first. Only one thread at a time can use
    it.
    """
    return _RUNNER.get().run(coroutine)
