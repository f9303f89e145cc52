"""A comparison that is stopped at any moment leaves a folder in which the next one works."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from rig.errors import BROKEN, INTERRUPTED
from rig.settings import Settings

RIG = str(Path(sys.executable).parent / "rig")
COMPARE = ("compare", "--profile", "quick", "--tasks", "4", "--hold", "0", "--executors", "local", "--patterns",
           "improved", "--repeats", "1")
OWNER = "CHAOS_OWNER"
WHOLE = 1.2             # moments lie within so much of the time that a comparison takes
LIMIT = 1200.0          # seconds for one


def run(times: int, seed: int, say: Callable[[str], None]) -> int:
    """Stop a comparison by Ctrl-C, then by kill -9, at so many random moments each; every second one must work."""
    chance = random.Random(seed)       # noqa: S311 - a recorded order, no secret
    folder = Path(tempfile.mkdtemp(prefix="chaos-survival-"))
    folder.chmod(0o755)
    environment = {**os.environ, "RIG_DATA_DIR": str(folder / "data"), "RIG_SLOTS": "4", OWNER: str(folder),
                   "RIG_CACHE_DIR": str(Settings().downloads_dir), "RIG_INHERIT": OWNER}
    try:
        began = time.monotonic()
        if problem := _whole(environment):
            say(f"a comparison that nobody stops: {problem}")
            return BROKEN
        takes = time.monotonic() - began
        say(f"a comparison takes {takes:.0f} s")
        failed = 0
        for sign in (signal.SIGINT, signal.SIGKILL):
            held = sum(_survives(environment, sign, chance.uniform(0, WHOLE * takes), say) for _ in range(times))
            failed += times - held
            print(f"{sign.name}: {times} times, the next comparison worked {held} times")
        return BROKEN if failed else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        subprocess.run([RIG, "down"], env=environment, check=False, capture_output=True)
        for process in _ours(str(folder)):
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def _survives(environment: dict[str, str], sign: signal.Signals, moment: float, say: Callable[[str], None]) -> bool:
    with subprocess.Popen([RIG, *COMPARE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          start_new_session=True, text=True) as stopped:
        try:
            stopped.communicate(timeout=moment)
        except subprocess.TimeoutExpired:
            stopped.send_signal(sign)
            said = stopped.communicate(timeout=LIMIT)[0]
            if sign == signal.SIGINT and (stopped.returncode != INTERRUPTED or "Traceback" in said):
                say(f"{sign.name} after {moment:.0f} s: exit code {stopped.returncode}: {said[-300:]}")
                return False
    problem = _whole(environment)
    say(f"{sign.name} after {moment:.1f} s (ended with {stopped.returncode}): {problem or 'the next one worked'}")
    return problem is None


def _whole(environment: dict[str, str]) -> str | None:
    """Run a comparison to its end; return what is wrong with it, or with what it leaves."""
    done = subprocess.run([RIG, *COMPARE], env=environment, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode:
        return f"exit code {done.returncode}: {' '.join(done.stderr.split())[-300:]}"
    left = [str(process.pid) for process in _ours(environment[OWNER])]
    return f"processes are left: {', '.join(left)}" if left else None


def _ours(owner: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _owner(process) == owner]


def _owner(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(OWNER)
    except (psutil.Error, OSError):     # gone, or another user's
        return None
