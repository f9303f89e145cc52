"""A comparison that is stopped at any moment, or whose disk fills up, leaves a folder in which the next one works."""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from chaos import disk
from chaos.ground import command_of
from chaos.table import write
from chaos.trial import MOST_SHOWN
from rig import records
from rig.errors import BAD_INPUT, BROKEN, INTERRUPTED
from rig.progress_view import end
from rig.settings import Settings

RIG = str(Path(sys.executable).parent / "rig")
COMPARE = ("compare", "--profile", "quick", "--tasks", "4", "--hold", "0", "--executors", "local", "--patterns",
           "improved", "--repeats", "1")
OWNER = "CHAOS_OWNER"
LIMIT = 1200.0          # seconds for one comparison
CTRL_C, KILL, FULL_DISK = "Ctrl-C", "kill -9", "full disk"
WAYS = (CTRL_C, KILL, FULL_DISK)
RAW = (records.TASKS_FILE, records.SAMPLES_FILE, records.CONNECTIONS_FILE, records.DAG_RUNS_FILE)


@dataclass(frozen=True)
class Moment:
    """The result for one moment. ``hit`` is False if the comparison had ended; ``problem`` is None if all was well."""

    way: str
    after: float
    hit: bool
    said: str
    problem: str | None

    def __str__(self) -> str:
        end = self.problem or "the next one worked"
        return f"{self.way} after {self.after:.1f} s: {self.said}; {end}"


def run(times: int, seed: int, only: str | None, out: Path, say: Callable[[str], None]) -> int:
    """Stop a comparison at so many random moments in each way; every next one must work. Return the exit code.

    A moment at which the comparison had already ended is not counted, and another one is tried.
    """
    ways = [way for way in WAYS if only is None or only in way]
    if FULL_DISK in ways and (reason := disk.refusal()):
        say(f"{FULL_DISK} is left out: {reason}")
        ways.remove(FULL_DISK)
    folder = Path(tempfile.mkdtemp(prefix="chaos-survival-"))
    folder.chmod(0o755)
    environment = {**os.environ, "RIG_DATA_DIR": str(folder / "data"), "RIG_SLOTS": "4", OWNER: str(folder),
                   "RIG_CACHE_DIR": str(Settings().downloads_dir), "RIG_INHERIT": OWNER}
    found: list[Moment] = []
    planned = len(ways) * times
    began = time.monotonic()
    with ExitStack() as things:
        things.callback(shutil.rmtree, folder, ignore_errors=True)
        small = things.enter_context(disk.mounted(folder / "data")) if FULL_DISK in ways else None
        things.callback(_leave_nothing, environment)
        try:
            chance = random.Random(seed)    # noqa: S311 - moments, recorded, no secret
            for moment in _moments(environment, ways, times, chance, small):
                found.append(moment)        # one by one, so that after Ctrl-C there are those that were tried
                say(f"{moment}{_progress(found, planned, began)}")
        except KeyboardInterrupt:
            return INTERRUPTED
        finally:
            print(table(found))
            say(f"written: {write(out, {'seed': seed, 'moments': [asdict(moment) for moment in found]})}")
    return BROKEN if not found or any(moment.problem for moment in found) else 0


def _progress(found: list[Moment], planned: int, began: float) -> str:
    hit = sum(moment.hit for moment in found)
    return f" ({hit}/{planned}; all will have ended at about {end(began, hit, planned)})" if hit else ""


def table(found: list[Moment]) -> str:
    """Return a table in Markdown: for each way how often it was tried, hit, and survived."""
    rows = ["| a comparison is stopped by | moments | it was running | the next one worked |", "|---|---|---|---|"]
    for way in dict.fromkeys(moment.way for moment in found):
        of_it = [moment for moment in found if moment.way == way]
        hit = [moment for moment in of_it if moment.hit]
        rows.append(f"| {way} | {len(of_it)} | {len(hit)} | {sum(not moment.problem for moment in hit)} |")
    return "\n".join(rows)


def _moments(environment: dict[str, str], ways: list[str], times: int, chance: random.Random,
             small: disk.Disk | None) -> Iterator[Moment]:
    began = time.monotonic()
    if problem := _whole(environment):
        yield Moment("nothing", 0.0, hit=True, said="a comparison that nobody stops", problem=problem)
        return
    takes = time.monotonic() - began
    for way in ways:
        hits = 0
        while hits < times:
            moment = _survive(environment, way, chance.uniform(0, takes), small)
            hits += moment.hit or bool(moment.problem)
            yield moment


def _survive(environment: dict[str, str], way: str, after: float, small: disk.Disk | None) -> Moment:
    data = Path(environment["RIG_DATA_DIR"])
    with subprocess.Popen([RIG, *COMPARE], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          start_new_session=True, text=True) as stopped:
        try:
            stopped.communicate(timeout=after)
            return Moment(way, after, hit=False, said="it had ended", problem=_whole(environment))
        except subprocess.TimeoutExpired:
            before = _recorded(data)
        if way == FULL_DISK and small:
            small.fill()
        else:
            stopped.send_signal(signal.SIGINT if way == CTRL_C else signal.SIGKILL)
        try:
            _, errors = stopped.communicate(timeout=LIMIT)
        finally:
            if small:
                small.make_room()
    lines = [line for line in errors.splitlines() if line.startswith("rig: ")]
    said = f"exit code {stopped.returncode}, {' '.join(lines)[:300] or 'no line'}"
    problem = (_misbehaved(way, stopped.returncode, errors, lines) or _lost(before, data)
               or (None if way == KILL else _left(environment)) or _whole(environment))
    return Moment(way, after, hit=way != FULL_DISK or stopped.returncode != 0, said=said, problem=problem)


def _misbehaved(way: str, code: int, errors: str, lines: list[str]) -> str | None:
    """Return what is wrong with the way the command ended; None if nothing is."""
    if way == KILL:
        return None     # it had no chance to print anything
    if "Traceback" in errors:
        return f"a traceback: {' '.join(errors.split())[-300:]}"
    # A disk that is full before anything was started is bad input; one that fills up at the end may do no harm.
    allowed = {INTERRUPTED} if way == CTRL_C else {0, BROKEN, BAD_INPUT}
    if code not in allowed:
        return f"exit code {code}, and not {' or '.join(map(str, sorted(allowed)))}"
    return f"{len(lines)} lines that begin with `rig:`, and not one" if code and len(lines) != 1 else None


def _recorded(data: Path) -> dict[Path, bytes]:
    """Return the complete lines of every raw file."""
    found = {path: path.read_bytes() for name in RAW for path in data.glob(f"*/{name}")}
    return {path: text[:text.rfind(b"\n") + 1] for path, text in found.items()}


def _lost(before: dict[Path, bytes], data: Path) -> str | None:
    now = _recorded(data)
    gone = [str(path) for path, text in before.items() if not now.get(path, b"").startswith(text)]
    return f"what was recorded is lost: {', '.join(gone)}" if gone else None


def _whole(environment: dict[str, str]) -> str | None:
    """Run a comparison to its end; return what is wrong with it, or with what it leaves behind."""
    done = subprocess.run([RIG, *COMPARE], env=environment, capture_output=True, text=True, check=False, timeout=LIMIT)
    if done.returncode:
        return f"the next one: exit code {done.returncode}: {' '.join(done.stderr.split())[-300:]}"
    return _left(environment)


def _left(environment: dict[str, str]) -> str | None:
    left = [f"{process.pid} {command_of(process)[:MOST_SHOWN]}" for process in _ours(environment[OWNER])]
    return f"processes are left: {', '.join(left)}" if left else None


def _leave_nothing(environment: dict[str, str]) -> None:
    subprocess.run([RIG, "down"], env=environment, check=False, capture_output=True)
    for process in _ours(environment[OWNER]):
        process.kill()


def _ours(owner: str) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if process.pid != os.getpid() and _owner(process) == owner]


def _owner(process: psutil.Process) -> str | None:
    try:
        return process.environ().get(OWNER)
    except (psutil.Error, OSError):     # gone, or another user's process
        return None
