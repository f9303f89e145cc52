"""How long a host's event loop is held by one callback, in processor time: a busy machine makes nothing of it longer.

A host runs on this in uvloop's place (see :func:`watched`). SIGUSR2 has it forget what it has seen so far.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_REPORT = "LOOP_WATCH_REPORT"
_IN_ITS_PLACE = "from tests.worker_init.loop_watch import run\n"


def run(work: Coroutine[Any, Any, int]) -> int:
    """Run a host's main coroutine on asyncio's own loop; write what took longest at the end."""
    longest: dict[str, Any] = {"seconds": 0.0, "callback": "none", "callbacks": 0}
    handled = asyncio.Handle._run

    def watched_run(handle: asyncio.Handle) -> None:
        before = time.thread_time()
        handled(handle)
        took = time.thread_time() - before
        longest["callbacks"] += 1
        if took > longest["seconds"]:
            longest.update(seconds=took, callback=repr(handle))

    signal.signal(signal.SIGUSR2, lambda *_: longest.update(seconds=0.0, callback="none", callbacks=0))
    asyncio.Handle._run = watched_run  # type: ignore[method-assign, assignment]
    try:
        return asyncio.run(work)
    finally:
        Path(os.environ[_REPORT]).write_text(json.dumps(longest))


@contextmanager
def watched(folder: Path) -> Iterator[Path]:
    """Have the hosts that are started within run on it; give the file with what they write when they end."""
    (folder / "uvloop.py").write_text(_IN_ITS_PLACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv(_REPORT, str(folder / "longest.json"))
        yield folder / "longest.json"
