"""A process with the life of an Airflow task's: forked from its worker, ended by os._exit."""

import atexit
import json
import os
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class TaskProcess(NamedTuple):
    """A forked process that did its work and waits to be let go."""

    pid: int
    result: Any


@contextmanager
def forked(body: Callable[[], Any], *, exits: bool = True) -> Iterator[TaskProcess]:
    """Fork as Airflow's supervisor does, and keep the child after its atexit functions until the block ends.

    So what the server shows then is what the task itself closed, not what the end of its process did.
    Without ``exits`` its atexit functions have not run either: the task is at its work.
    """
    answer_read, answer_write = os.pipe()
    with warnings.catch_warnings():
        # From Python 3.12 on a fork is worth a warning where there are threads, such as the driver's: Airflow's too.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        os.close(answer_read)
        _child(body, exits, answer_write)
    os.close(answer_write)
    try:
        with os.fdopen(answer_read) as answer:
            outcome = json.loads(answer.readline())
        assert "error" not in outcome, outcome["error"]
        yield TaskProcess(pid, outcome["result"])
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _child(body: Callable[[], Any], exits: bool, answer: int) -> None:
    atexit._clear()
    try:
        outcome = {"result": body()}
        if exits:
            atexit._run_exitfuncs()
    except BaseException:
        outcome = {"error": traceback.format_exc()}
    os.write(answer, json.dumps(outcome).encode() + b"\n")
    signal.pause()
    os._exit(0)
