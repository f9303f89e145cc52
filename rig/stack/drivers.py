"""``worker_init`` in the stack: how it joins the Celery worker, LocalExecutor's driver host, and what is preloaded."""

import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from patterns.facts import Executor
from rig.environment import users_settings
from rig.errors import BadInput, RelayMissing
from rig.stack import ports
from rig.stack.service import Service
from rig.stack.state import StackState
from rig.whole_file import write_whole
from worker_init import settings as relay_settings
from worker_init.control import find_folders, read_status
from worker_init.errors import BadSetting, WorkerInitError
from worker_init.pool_states import OFF
from worker_init.preload import NONE

HOST = "worker-driver"
COMMAND = Path(sys.executable).parent / HOST
HOOKS = "worker_init.hooks"
PRELOAD_HOOKS = "worker_init.preload_hooks"     # for a worker without HOOKS, which preload too
PRELOAD = "WORKER_INIT_PRELOAD"
PLUGINS_FOLDER = "AIRFLOW__CORE__PLUGINS_FOLDER"
OR_WITHOUT = f"or preload nothing: leave --preload out, and {PRELOAD} unset"
PLUGIN = "from worker_init.airflow_plugin import PreloadPlugin  # noqa: F401\n"
EXHIBIT = "patterns.inherited_hooks"
IMPORTS = "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"
CONNECTION = "AIRFLOW_CONN_NEO4J_DEFAULT"
DEFAULT_PORT = 7687
UPSTREAMS = 2       # NEO4J_URI, and neo4j_default if its address is written in another way
STATUS_SECONDS = 2.0
HOST_SECONDS = 10.0
BY_THEMSELVES = "tasks connect by themselves: "     # as worker_init logs it


def connection(state: StackState) -> str:
    """Return the stack's Neo4j as Airflow's connection ``neo4j_default``, in JSON."""
    parts = urlsplit(state.tasks_uri)
    scheme, _, tls = parts.scheme.partition("+")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname    # the hook does not add them
    extra = {"neo4j_scheme": scheme == "neo4j", "certs_self_signed": tls == "ssc", "certs_trusted_ca": tls == "s"}
    return json.dumps({
        "conn_type": "neo4j", "host": host, "port": parts.port or DEFAULT_PORT,
        "login": state.neo4j_username, "password": state.secrets.neo4j.get_secret_value(),
        "schema": state.neo4j_database, "extra": {name: True for name, is_set in extra.items() if is_set}})


def of_worker(state: StackState) -> dict[str, str]:
    """Return the additional variables for a Celery worker, which give its pool processes drivers and modules."""
    own = [HOOKS] if state.relay != "none" else [PRELOAD_HOOKS] * state.preload
    modules = own + [EXHIBIT] * state.exhibit
    return {IMPORTS: json.dumps({"imports": modules}), **_settings(state)} if modules else {}


def of_scheduler(state: StackState) -> dict[str, str]:
    """Return the additional variables for a scheduler: the address of the driver host beside it, if there is one."""
    file = _environment_file(state)
    return _read(file) if has_host(state) and file.exists() else {}


def of_preloading_scheduler(state: StackState) -> dict[str, str]:
    """Return the variables that make a scheduler preload if it forks the tasks.

    They do not override a plugins folder of the user's (:func:`require_preload`).
    """
    return ({PLUGINS_FOLDER: str(state.plugins_dir), PRELOAD: _preload(state)} if _is_preloading_scheduler(state)
            else {})


def write_plugin(state: StackState) -> None:
    """Write the plugin that preloads into the folder where a preloading scheduler looks for it; no other needs it."""
    if _is_preloading_scheduler(state):
        state.plugins_dir.mkdir(exist_ok=True)
        write_whole(state.plugins_dir / "preload.py", PLUGIN)


def is_preload_set(environ: Mapping[str, str]) -> bool:
    """Return whether the user has set what is preloaded: then a stack preloads as soon as it is up.

    A blank value counts as not set, as in the rig's own settings.
    """
    return environ.get(PRELOAD, "").strip() not in {"", NONE}


def require_preload(executor: Executor, environment: Mapping[str, str]) -> None:
    """Raise BadInput if the user's settings, or those in the services' ``environment``, make preloading impossible."""
    try:
        modules = relay_settings.Settings.from_environment(users_settings(os.environ)).preload
    except BadSetting as error:
        raise BadInput(f"nothing would be preloaded: {error}", f"correct the setting, {OR_WITHOUT}") from error
    if modules == (NONE,):
        raise BadInput(f"{PRELOAD}={NONE} leaves nothing to preload", "unset it")
    if executor == "LocalExecutor" and PLUGINS_FOLDER in environment:
        raise BadInput(f"{PLUGINS_FOLDER} is in RIG_INHERIT, and preloading on LocalExecutor needs a folder of plugins "
                       "of its own", f"take it out of RIG_INHERIT, {OR_WITHOUT}")


def has_host(state: StackState) -> bool:
    """Return whether the stack has a separate driver host: LocalExecutor has no worker that would start one."""
    return state.executor == "LocalExecutor" and state.relay != "none"


def prepare_host(state: StackState) -> None:
    """Choose the address of a driver host, and remove that of an earlier one.

    A host that is started again alone, after a fault or by `rig restart`, keeps the address: the scheduler and every
    task that it forks have it in their environment.
    """
    _environment_file(state).unlink(missing_ok=True)
    if has_host(state):
        given = {*state.ports.values(), *([state.tap.port] if state.tap else [])}
        state.ports[HOST] = ports.choose(0, variable="--relay", given=given, in_a_row=UPSTREAMS)


def host(env: Mapping[str, str], state: StackState) -> Service:
    """Return the driver host beside LocalExecutor. It is ready when it answers."""
    file = _environment_file(state)

    def check() -> str | None:
        if not file.exists():
            return "it has not sent its address yet"
        return None if any(map(_answers, find_folders(state.drivers_dir))) else "it does not answer"
    credentials = {"NEO4J_WORKER_USERNAME": HOST,
                   "NEO4J_WORKER_PASSWORD": state.secrets.driver_host.get_secret_value()}
    return Service(name=HOST, command=[COMMAND, "serve", "--airflow", "--port", str(state.ports.get(HOST, 0)),
                                       "--environment-file", file],
                   cwd=file.parent, env={**env, **_settings(state), **credentials}, check=check)


def require_relay(state: StackState, log: Path, hosts: int = 1) -> None:
    """Raise RelayMissing, with the reason from a Celery worker's log, if fewer than ``hosts`` driver hosts serve.

    Once the worker answers, its host has been started or given up.
    """
    if state.executor != "CeleryExecutor" or state.relay == "none":
        return
    asking = Retrying(retry=retry_if_result(lambda answers: not answers), stop=stop_after_delay(HOST_SECONDS),
                      wait=wait_fixed(0.2), retry_error_callback=lambda _: False)
    if not asking(lambda: sum(map(is_sharing, find_folders(state.drivers_dir))) >= hosts):
        raise RelayMissing(f"the Celery worker has no shared drivers (relay {state.relay}): {_reason(log)}",
                           "correct the setting, or use --relay none")


def _reason(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    said = [line.partition(BY_THEMSELVES)[2] for line in lines if BY_THEMSELVES in line]
    return said[-1] if said else f"its log does not say why: {log}"


def _settings(state: StackState) -> dict[str, str]:
    return {**users_settings(os.environ), PRELOAD: _preload(state),
            "WORKER_INIT_SCOPE": "shared" if state.relay == "shared" else "process",
            "WORKER_INIT_RUNTIME_DIR": str(state.drivers_dir)}


def _is_preloading_scheduler(state: StackState) -> bool:
    return state.preload and state.executor == "LocalExecutor"


def _preload(state: StackState) -> str:
    # The hooks of a relay would preload by themselves: what that saves would be credited to the relay.
    return os.environ.get(PRELOAD, "") if state.preload else NONE


def _environment_file(state: StackState) -> Path:
    return state.drivers_dir / "environment"


def _read(file: Path) -> dict[str, str]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return dict(shlex.split(line)[0].split("=", 1) for line in lines)


def _answers(folder: Path) -> bool:
    return _states(folder) is not None


def is_sharing(folder: Path) -> bool:
    """Return whether the host of a runtime folder serves and shares Neo4j, which it does not if Neo4j is too old."""
    states = _states(folder)
    return states is not None and OFF not in states


def _states(folder: Path) -> list[str] | None:
    """Return the state of each shared driver of a host; None if no host serves."""
    try:
        status = read_status(folder, STATUS_SECONDS)
    except WorkerInitError:
        return None
    return [driver["state"] for driver in status["drivers"]] if status["state"] == "serving" else None
