"""Ctrl-C at the moment at which a program runs, and what starts it does not know it yet."""

import signal
import subprocess
import sys
from typing import Any


class Interrupted(subprocess.Popen[Any]):
    """In place of Popen. It writes the program's pid to stderr."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        print(self.pid, file=sys.stderr, flush=True)
        signal.raise_signal(signal.SIGINT)
