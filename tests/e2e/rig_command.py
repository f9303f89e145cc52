"""The real ``rig`` as its user has it: a program with arguments, an environment, output and an exit code."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rig.airflow_api import AirflowApi
from rig.records import DAG_RUNS_FILE, DagRunRecord, read
from rig.settings import ENV_FILE_VARIABLE, Settings
from rig.stack import state as states
from rig.stack.state import StackState
from testing.waiting import eventually

RIG = (str(Path(sys.executable).parent / "rig"),)
OWNER = "E2E_OWNER"     # in the environment of all that a test's rig starts, whatever the rig itself marks it with
OURS = ("NEO4J_", "RIG_", "AIRFLOW", "_AIRFLOW", "WORKER_INIT_", "COLUMNS")
TRACEBACK = "Traceback (most recent call last)"
SLOTS = 4
LIMIT = 240.0       # seconds for one command; a comparison is given more
ENDING = 60.0       # seconds for what a failed test left running, after Ctrl-C

@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    def require(self, code: int = 0) -> "Result":
        """Return itself where the exit code is the expected one and no traceback was shown."""
        assert self.code == code, f"exit code {self.code}, expected {code}\n--- stdout\n{self.out}\n--- stderr\n" \
                                  f"{self.err}"
        assert TRACEBACK not in self.out + self.err, self.out + self.err
        return self

    def require_one_line(self, *words: str, code: int = 2) -> str:
        """Return the one line of an error, which must hold these words."""
        self.require(code)
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("rig: "), self.err
        for word in words:
            assert word in lines[0]
        return lines[0]


class Running:
    """A ``rig`` that has been started and goes on."""

    def __init__(self, process: "subprocess.Popen[bytes]", out: Path, err: Path) -> None:
        self.process = process
        self._out, self._err = out, err

    @property
    def out(self) -> str:
        """What it has said so far."""
        return self._out.read_text(encoding="utf-8")

    def wait_for(self, text: str, limit: float = LIMIT) -> None:
        """Wait until the output holds a text. Fails at once where the command has ended without it."""
        def there() -> bool:
            ended = self.process.poll() is not None     # asked first: what was written before it counts
            found = text in self.out
            assert found or not ended, f"ended without {text!r}:\n{self.out}\n{self._err.read_text('utf-8')}"
            return found
        eventually(there, limit)

    def send(self, sign: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(sign)

    def end(self, limit: float = LIMIT) -> Result:
        """Wait until it has ended by itself."""
        code = self.process.wait(timeout=limit)
        return Result(code, self.out, self._err.read_text(encoding="utf-8"))


@dataclass
class Rig:
    """The command line on a folder of its own. ``settings`` are variables of every command's environment."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = RIG
    user: str | None = None
    owner: str = field(default_factory=lambda: secrets.token_hex(16))
    commands: list[Running] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        """Its RIG_DATA_DIR."""
        return self.home / "data"

    @property
    def connections_file(self) -> Path:
        """Where the secrets backend of its Airflow looks for connections, if it was given one."""
        return self.home / "connections.json"

    @property
    def stack_dir(self) -> Path:
        """Where it keeps the running stack."""
        return self.data_dir / ".stack"

    def run(self, *arguments: str, limit: float = LIMIT, **settings: str) -> Result:
        """Run a command to its end."""
        return self.start(*arguments, **settings).end(limit)

    def start(self, *arguments: str, **settings: str) -> Running:
        """Start a command, its output into files: a pipe that nobody reads would stop it."""
        number = len(self.commands)
        out, err = self.home / f"{number}.out", self.home / f"{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen([*self.command, *arguments], env=self._environment(settings), cwd=self.home,
                                       stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, user=self.user,
                                       group=self.user and _group(self.user), extra_groups=[] if self.user else None)
        self.commands.append(Running(process, out, err))
        return self.commands[-1]

    def api(self) -> AirflowApi:
        """Return Airflow's API, logged in as the stack's user."""
        state = self.state()
        return AirflowApi(f"http://127.0.0.1:{state.ports['airflow']}", "airflow", state.secrets.airflow)

    def state(self) -> StackState:
        """Return what the rig knows of its running stack."""
        state = states.load(self.stack_dir)
        assert state is not None, "no stack is running"
        return state

    def processes(self) -> list[psutil.Process]:
        """Return every process that a command of this rig has started, the commands themselves included."""
        return [process for process in psutil.process_iter() if _environ(process).get(OWNER) == self.owner]

    def leftovers(self) -> list[str]:
        """Return what a stack that is down should not have left; its logs may stay."""
        stack = [path for path in self.stack_dir.glob("*") if path.name != "logs"]
        temporary = (self.home / "tmp").glob("rig-*")
        running = [str(process) for process in self.processes()]
        return [*map(str, [*stack, *temporary]), *running]

    def runs(self) -> list[Path]:
        """Return the folders of the runs, oldest first."""
        return sorted(path.parent for path in self.data_dir.glob("*/run.json"))

    def dag_runs(self, run: Path | None = None) -> list[DagRunRecord]:
        """Return what is recorded of a run's DAG runs, of the newest run where none is named."""
        return list(read((run or self.runs()[-1]) / DAG_RUNS_FILE, DagRunRecord))

    def interrupt(self, commands: list[Running]) -> None:
        """End those of the commands that still run, with Ctrl-C, so that they take down what they have started."""
        running = [command.process for command in commands if command.process.poll() is None]
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            try:
                process.wait(ENDING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def clean_up(self) -> None:
        """Take down what is left, also after a failure, so that the next test finds a quiet machine."""
        self.interrupt(self.commands)
        if self.leftovers():
            self.run("down")
        rest = self.processes()
        for process in rest:
            process.kill()
        psutil.wait_procs(rest, timeout=10)
        shutil.rmtree(self.home, ignore_errors=True)

    def _environment(self, settings: dict[str, str]) -> dict[str, str]:
        own = {"RIG_DATA_DIR": str(self.data_dir), "RIG_CACHE_DIR": str(Settings().downloads_dir),
               "RIG_SLOTS": str(SLOTS), "TMPDIR": str(self.home / "tmp"), "HOME": str(self.home), OWNER: self.owner,
               "COLUMNS": "200", "RIG_INHERIT": OWNER, ENV_FILE_VARIABLE: os.devnull}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        return {**kept, **own, **self.settings, **settings}


@contextmanager
def a_rig(user: str | None = None, **changes: Any) -> Iterator[Rig]:
    """Make a rig with a folder that every user may look into: as root, Postgres runs as another one."""
    home = Path(tempfile.mkdtemp(prefix="rig-e2e-"))
    home.chmod(0o755)
    for folder in ("data", "tmp"):
        (home / folder).mkdir()
        if user:
            shutil.chown(home / folder, user)
    rig = Rig(home, user=user, **changes)
    try:
        yield rig
    finally:
        rig.clean_up()


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except (psutil.Error, OSError):     # gone, or not ours to look at
        return {}
