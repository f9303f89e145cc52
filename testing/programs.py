"""Programs that run beside a test or a benchmark until a block ends."""

import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from rig import interrupts
from rig.stack import processes
from testing.waiting import LIMIT


@contextmanager
def running_program(command: Sequence[str | Path], *, sign: signal.Signals = signal.SIGTERM, patience: float = LIMIT,
                    **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """Run a program until the block ends, with the ``options`` of Popen. It is ended by ``sign``.

    If it does not end within ``patience`` seconds, it is killed with its children: Popen alone would wait for it for
    ever, and a test would say nothing of the reason.
    """
    with ExitStack() as at_the_end:
        with interrupts.put_off():      # else Ctrl-C could come before it is known what to end
            process = at_the_end.enter_context(subprocess.Popen(command, **options))
            at_the_end.callback(_end, process, sign, patience)
        yield process


def _end(process: "subprocess.Popen[Any]", sign: signal.Signals, patience: float) -> None:
    with interrupts.put_off():      # a second Ctrl-C would leave it behind
        children: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(sign)       # does nothing if it has ended
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            processes.kill(children)
