"""SIGTERM ends a benchmark as an exception does, so that everything that it started is stopped."""

import signal
import sys
import traceback
from types import FrameType

AGAIN_SECONDS = 0.05


class _Terminated(SystemExit):
    """The exception by which the program ends, with the exit code that a shell gives for SIGTERM."""


def end_on_sigterm() -> None:
    """Make SIGTERM raise SystemExit in the main thread, wherever that is, except where it would do harm or be lost.

    It would do harm within ``logging``: a lock that stays locked stops the other threads at their next line. There it
    is raised a moment later. It is lost in a method ``__del__`` or a callback of a weak reference, since Python prints
    exceptions of these and goes on. Then it is raised once more. Uses SIGALRM.
    """
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGALRM, _again)
    report = sys.unraisablehook

    def lost(what: "sys.UnraisableHookArgs") -> None:
        if isinstance(what.exc_value, _Terminated):
            _try_again()
        else:
            report(what)
    sys.unraisablehook = lost


def _end(_: int, frame: FrameType | None) -> None:
    if any(each.f_globals.get("__name__") == "logging" for each, _ in traceback.walk_stack(frame)):
        _try_again()
    else:
        raise _Terminated(128 + signal.SIGTERM)


def _try_again() -> None:
    signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)


def _again(_: int, __: FrameType | None) -> None:
    # Not raised from here: a block that puts SIGTERM off must be able to do so this time too (rig.interrupts).
    signal.raise_signal(signal.SIGTERM)
