"""``rig load``: a stack if none is running, Locust beside it, and the result of the test."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_result, wait_fixed

from patterns.facts import MONITOR_DAG, STRESS_DAG, Executor
from rig import interrupts, runs
from rig.airflow_api import AirflowApi
from rig.errors import BAD_INPUT, BROKEN, INTERRUPTED, BadInput, RigError
from rig.experiment.progress import Notes
from rig.plural import plural
from rig.records import SERIES_FILE, Relay
from rig.settings import PROJECT, Settings, one_port_twice
from rig.stack import airflow, inherited, lock, ports, processes
from rig.stack.borrowing import Needs, Start, borrowed
from rig.stack.interface import Stack
from rig.stack.processes import MARK
from rig.stack.state import StackState

LOCUSTFILE = PROJECT / "loadtest" / "locustfile.py"
OPTIONS = LOCUSTFILE.with_name("options.py")
HOST = "127.0.0.1"
PORT = 8089
LOOK_EVERY = 1.0        # seconds
PATIENCE = 30.0         # seconds that Locust has to end its users and write its files
# Arguments of the locustfile, whose names are those of Locust's form, and the options of `rig load` for them.
OPTION_OF = {"--arrival-rate": "--rate", "--duration": "--time", "--max-run-seconds": "--max-run-p95"}


@dataclass(frozen=True)
class Wish:
    """What the user asked for. ``arguments`` are for Locust and the locustfile; they contain no secret.

    Each test leaves a folder in ``results``, or in RIG_DATA_DIR if that is None.
    """

    executor: Executor | None
    relay: Relay | None
    slots: int
    headless: bool
    port: int
    unpause: bool
    arguments: tuple[str, ...]
    command: str
    results: Path | None = None


@dataclass(frozen=True)
class Ended:
    """How Locust ended: its exit code, and the folders of its tests, oldest first."""

    code: int
    folders: list[Path]


def run(settings: Settings, stack: Stack, wish: Wish, view: Notes) -> Ended:
    """Run Locust against the running stack, or against one that exists only during this call.

    Raises BadInput if nothing can be started, and any RigError of the stack's start.
    """
    if not wish.headless:
        _require_a_port(settings, wish)
    if not stack.is_there():
        _require_a_test(wish, inherited.of(os.environ, settings.inherited))
    needs = Needs({STRESS_DAG}, executor=wish.executor, relay=wish.relay)
    with lock.hold(settings.data_dir, wish.command), borrowed(stack, _start(wish), needs) as state, \
            stack.api(state) as api:
        if state.keeper:        # nobody else uses it
            api.set_paused(STRESS_DAG, paused=False)
        _require_unpaused(api, wish)
        with api.paused(MONITOR_DAG, True):
            return locust(settings, stack, state, wish, view)


def _start(wish: Wish) -> Start:
    executor = wish.executor or "LocalExecutor"
    return Start(executor, wish.relay or ("process" if executor == "CeleryExecutor" else "shared"), wish.slots)


def _require_a_port(settings: Settings, wish: Wish) -> None:
    another = "choose another --port for Locust's page"
    if problem := one_port_twice({**settings.set_ports, "--port": wish.port}):
        raise BadInput(problem, another)
    try:
        ports.choose(wish.port, variable="--port", host=HOST)
    except BadInput as error:       # its remedy is that of a service, for which 0 is any free port
        raise BadInput(error.what, another) from None


def _require_a_test(wish: Wish, environment: dict[str, str]) -> None:
    """Let Locust's side check the arguments first: a stack takes a minute to start, which would be wasted."""
    judged = subprocess.run([sys.executable, "-P", str(OPTIONS), *wish.arguments], env=environment,
                            cwd=PROJECT, check=False, capture_output=True, text=True, errors="replace")
    if judged.returncode:
        raise (BadInput if judged.returncode == BAD_INPUT else RigError)(_last_words(judged.stderr))


def _require_unpaused(api: AirflowApi, wish: Wish) -> None:
    if wish.headless and not wish.unpause and api.is_paused(STRESS_DAG):
        raise BadInput(f"{STRESS_DAG} is paused: its runs would wait forever",
                       "unpause it on Airflow's page, or add --unpause")


def locust(settings: Settings, stack: Stack, state: StackState, wish: Wish, view: Notes) -> Ended:
    """Run Locust to its end against a running stack. Raises RigError if no test could be run."""
    results = wish.results or settings.data_dir
    before = set(runs.load_folders(results))
    log = settings.data_dir / ".load.log"
    process = None
    try:
        with log.open("wb") as output, interrupts.put_off():
            log.chmod(0o600)
            process = subprocess.Popen(command(settings, wish), env=_environment(settings, state), cwd=PROJECT,
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                       start_new_session=True)
        code = _watched(process, stack, wish, view, lambda: _new_ones(before, results))
    finally:
        if process:
            _end(process)
            # If Locust was killed, its Locust workers are still running.
            processes.kill(list(processes.session_of(process.pid, str(settings.stack_dir))))
    ended = Ended(code, _new_ones(before, results))
    if code < 0:
        raise RigError(f"Locust and its workers were stopped from outside ({signal.Signals(-code).name})",
                       f"Locust's log: {log}")
    # If Locust was stopped before its test had begun, there is no folder, and its last words do not matter.
    if code != INTERRUPTED and (code not in {0, BROKEN} or (wish.headless and not ended.folders)):
        said = _last_words(log.read_text(encoding="utf-8", errors="replace"))
        raise BadInput(said) if code == BAD_INPUT else RigError(said, f"Locust's log: {log}")
    return ended


def command(settings: Settings, wish: Wish) -> list[str]:
    """Return Locust's command line. Secrets are in its environment."""
    mode = ["--headless", "--only-summary"] if wish.headless else ["--web-host", HOST, "--web-port", str(wish.port)]
    # Locust would wait forever for a Locust worker that is killed before the test begins.
    mode += ["--expect-workers-max-wait", "60"]
    return [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), *mode, "--stop-timeout", "0", "--results",
            str(wish.results or settings.data_dir), *(["--unpause"] if wish.unpause else []), *wish.arguments]


def _environment(settings: Settings, state: StackState) -> dict[str, str]:
    """Return Locust's environment. It belongs to the stack, and ends with it whatever happens to this process."""
    host = airflow.reachable(settings.host)
    found = {
        "LOADTEST_AIRFLOW_URL": f"http://{host}:{state.ports['airflow']}",
        "LOADTEST_AIRFLOW_USERNAME": settings.airflow_username,
        "LOADTEST_AIRFLOW_PASSWORD": state.secrets.airflow.get_secret_value(), "LOADTEST_EXECUTOR": state.executor,
        "LOADTEST_RELAY": state.relay,
        "LOADTEST_NEO4J_IS_ELSEWHERE": "" if state.own_neo4j else "yes", "LOADTEST_STACK": str(settings.stack_dir),
        "NEO4J_URI": state.neo4j_uri, "NEO4J_USERNAME": state.neo4j_username,
        "NEO4J_PASSWORD": state.secrets.neo4j.get_secret_value(), MARK: str(settings.stack_dir)}
    if state.executor == "CeleryExecutor":
        found |= {"LOADTEST_FLOWER_URL": f"http://{host}:{state.ports['flower']}",
                  "LOADTEST_FLOWER_PASSWORD": state.secrets.flower.get_secret_value()}
    # Its home is the stack's folder: a ~/.locust.conf of the user is meant for other tests.
    return {**inherited.of(os.environ, settings.inherited), "HOME": str(settings.stack_dir), **found}


def _watched(process: "subprocess.Popen[bytes]", stack: Stack, wish: Wish, view: Notes,
             folders: Callable[[], list[Path]]) -> int:
    """Wait for Locust's end and report progress. Ctrl-C is passed on to Locust, which then ends by itself."""
    teller = _Teller(view, stack)
    if not wish.headless:
        _say_where(process, wish, view)
    try:
        Retrying(retry=retry_if_result(lambda code: code is None), wait=wait_fixed(LOOK_EVERY))(
            lambda: _look(process, teller, folders))
    except KeyboardInterrupt:
        _end(process)
        return INTERRUPTED
    return int(process.returncode)


def _look(process: "subprocess.Popen[bytes]", teller: "_Teller",
          folders: Callable[[], list[Path]]) -> int | None:
    code = process.poll()
    if code is None and (found := folders()):
        teller.tell(found[-1])
    return code


class _Teller:
    """Reports the progress of a test from time to time."""

    EVERY = 10          # samples

    def __init__(self, view: Notes, stack: Stack) -> None:
        self._view, self._stack = view, stack
        self._told = 0.0
        self._dead: list[str] = []

    def tell(self, folder: Path) -> None:
        """Report the last sample, if it is later than the last one reported."""
        dead = self._stack.dead()
        if dead != self._dead:
            self._dead = dead
            self._view.note(f"ended by itself: {', '.join(dead)}")
        sample = _last_sample(folder)
        if sample and sample["t"] >= self._told + self.EVERY:
            self._told = sample["t"]
            self._view.note(f"{max(0.0, sample['elapsed']):4.0f} s  {_progress(sample)}")


def _progress(sample: dict[str, Any]) -> str:
    return (f"{plural(sample['triggered'], 'DAG run')} started, {sample['ended']} ended, {sample['failed']} failed; "
            f"{_known(sample['open'])} connections open, {_known(sample['opened'])} opened")


def _known(value: int | None) -> str:
    return "?" if value is None else str(value)


def _last_sample(folder: Path) -> dict[str, Any] | None:
    path = folder / SERIES_FILE
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    try:
        found: dict[str, Any] = json.loads(lines[-2])       # the last one may be incomplete
    except (IndexError, ValueError):
        return None
    return found


def _say_where(process: "subprocess.Popen[bytes]", wish: Wish, view: Notes) -> None:
    """Print the address of the page, once it exists."""
    def there() -> bool:
        return process.poll() is not None or ports.is_open(HOST, wish.port)
    Retrying(retry=retry_if_result(lambda done: not done), wait=wait_fixed(0.1))(there)
    if process.poll() is None:
        view.note(f"Locust: http://{HOST}:{wish.port}   connections: http://{HOST}:{wish.port}/neo4j   Ctrl-C ends it")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Make sure that no process of Locust is left."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(log: str) -> str:
    """Return Locust's last message that a user can understand, with the names of this command's options."""
    lines = [line for line in log.splitlines() if line.strip()]
    said = [line.split("/ERROR/", 1)[1].split(": ", 1)[-1] for line in lines if "/ERROR/" in line]
    usage = [line.split("error: ", 1)[1] for line in lines if "error: " in line]
    words = (usage or said or lines or ["Locust ended without a message"])[-1]
    for argument, option in OPTION_OF.items():
        words = words.replace(argument, option)
    return words


def _new_ones(before: set[Path], results: Path) -> list[Path]:
    return [folder for folder in runs.load_folders(results) if folder not in before]
