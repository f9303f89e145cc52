"""The whole stack as containers: the compose project of this clone, with the interface of the native stack.

Executor, slots and ports are what the engine says about the containers. Only the comparison to which the stack belongs
is kept in a separate file.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, SecretStr, ValidationError

from patterns.facts import Executor
from rig import environment, interrupts
from rig.airflow_api import AirflowApi
from rig.errors import BadInput, ServiceDied
from rig.records import EARLIER_RELAYS, Relay, relay_on
from rig.settings import Settings
from rig.stack import airflow, asking, drivers, lock, neo4j, processes
from rig.stack import compose_command as command
from rig.stack.airflow import WORKER
from rig.stack.compose_command import Compose, Container
from rig.stack.interface import OnStep, ServiceStatus
from rig.stack.readiness import until_all_serve
from rig.stack.service import Check, death
from rig.stack.state import Secrets, StackState
from rig.whole_file import write_private
from worker_init.takes_tasks import TAKES_NOTHING, Finding

FILES: Mapping[Executor, Sequence[str]] = {"LocalExecutor": command.LOCAL_FILES,
                                           "CeleryExecutor": command.CELERY_FILES}
SCHEDULER, API_SERVER, INIT = "airflow-scheduler", "airflow-apiserver", "airflow-init"
DRIVER_HOST = "worker-driver"
QUEUE = "redis-data"                    # Redis' volume
DRIVER_ADDRESS = "127.0.0.1:7688"       # the address on which the compose file makes it listen
OF_EXECUTOR = ("redis", SCHEDULER, WORKER, "flower", DRIVER_HOST)
AIRFLOWS_PASSWORD = SecretStr("airflow")    # the documented login of the demo
CHECK_EVERY = 0.5           # seconds
ALIVE_FOR = 5.0             # seconds; asking the engine costs processor time that the tasks need
STOP_WITHIN = 30            # seconds, as nothing of it is kept: a worker would wait for its tasks
DOWN_WITHIN = 300.0         # seconds; Ctrl-C takes effect only then, so an engine that hangs must not hold it for ever
VERSIONS = """
import json, platform, sys
from importlib.metadata import PackageNotFoundError, version
def found(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None
names = json.loads(sys.argv[1])
print(json.dumps({"python": platform.python_version(), **{name: found(names[name]) for name in names}}))
"""


class Kept(BaseModel):
    """The comparison that started the stack only for itself, and whether the volumes are also its own."""

    keeper: processes.Started
    volumes: bool


@dataclass(frozen=True)
class _Wanted:
    """What the containers of an executor should be created from."""

    executor: Executor
    relay: Relay
    slots: int
    parallelism: int
    exhibit: bool = False

    @property
    def compose(self) -> Compose:
        modules = [drivers.HOOKS] * (self.relay != "none") + [drivers.EXHIBIT] * self.exhibit
        return Compose(FILES[self.executor], {
            "RIG_SLOTS": str(self.slots), "RIG_PARALLELISM": str(self.parallelism),
            "CELERY_IMPORTS": ", ".join(f'"{module}"' for module in modules),
            "WORKER_INIT_SCOPE": "shared" if self.relay == "shared" else "process",
            "NEO4J_WORKER_ADDRESS": DRIVER_ADDRESS if self._has_host else ""})

    @property
    def services(self) -> tuple[str, ...]:
        """The services that a switch restarts."""
        if self.executor == "CeleryExecutor":
            return ("redis", SCHEDULER, WORKER, "flower")
        return (SCHEDULER, DRIVER_HOST) if self._has_host else (SCHEDULER,)

    @property
    def profiles(self) -> tuple[str, ...]:
        return ("--profile", DRIVER_HOST) if self._has_host else ()

    @property
    def _has_host(self) -> bool:
        return self.executor == "LocalExecutor" and self.relay != "none"


class ComposeStack:
    """The compose project of this clone. All methods except the questions need the folder's lock."""

    def __init__(self, settings: Settings, on_step: OnStep = lambda *_: None) -> None:
        self.settings = settings
        self.folder = settings.data_dir / ".compose"
        self._on_step = on_step
        self._compose = Compose(command.CELERY_FILES)      # these files name every possible service
        self._watched: Mapping[str, Container] = {}
        self._alive_until = 0.0

    # --- questions -----------------------------------------------------------------------------

    def state(self) -> StackState:
        """Return the state of the running stack. Raises BadInput if none is running."""
        containers = self._containers()
        if SCHEDULER not in containers:
            raise BadInput("no stack is running here", "`rig up --stack compose` starts one")
        env = containers[SCHEDULER].env
        own = "neo4j" in containers
        worker = containers[WORKER].env if WORKER in containers else {}
        ports = {"airflow": (API_SERVER, 8080), "flower": ("flower", 5555), "neo4j": ("neo4j", 7687)}
        published = {name: containers[service].port(port) for name, (service, port) in ports.items()
                     if service in containers}
        kept = self._kept()
        return StackState(
            executor=_executor(env), relay=_relay(env, worker),
            exhibit=drivers.EXHIBIT in worker.get(drivers.IMPORTS, ""),
            # It is the same on both executors; the scheduler's own parallelism is not.
            slots=int(env["AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG"]), ports=published, own_neo4j=own,
            temporary=self.folder,
            secrets=self._secrets(containers), neo4j_database=env["NEO4J_DATABASE"],
            neo4j_username=env["NEO4J_USERNAME"], keeper=kept.keeper if kept else None,
            neo4j_uri=f"bolt://127.0.0.1:{published['neo4j']}" if own else env["NEO4J_URI"])

    def is_there(self) -> bool:
        """Return whether containers of the project exist, running or not."""
        return bool(self._containers())

    def dead(self) -> list[str]:
        """Return the services that have ended by themselves, including those that the engine has restarted."""
        before = self._watched or self._containers()
        now = {container.id: container for container in command.inspect([item.id for item in before.values()])}
        return [name for name, container in before.items() if name != INIT
                and not (container.id in now and now[container.id].is_running
                         and now[container.id].started_at == container.started_at)]

    def status(self, *, within: float = asking.WITHIN) -> list[ServiceStatus]:
        """Ask every service whether it serves, for at most ``within`` seconds.

        Neo4j is not asked while a comparison counts its connections.
        """
        state, containers = self.state(), self._containers()
        unasked = {"neo4j"} if state.keeper or lock.is_held(self.settings.data_dir) else set[str]()
        with self.api(state) as api:
            checks = {name: check for name, check in self._checks(state, containers, api).items()
                      if name not in unasked}
            shown = [container for name, container in containers.items() if name != INIT]
            ended = {item.service: problem for item in shown if (problem := item.problem())}
            found = asking.problems(checks, ended=ended, within=within)
        return [ServiceStatus(name=item.service, pid=item.pid, url=self._url(item.service, state),
                              healthy=not found.get(item.service), problem=found.get(item.service))
                for item in shown]

    def log_of(self, name: str) -> Path:
        """Return a file with a service's log. Raises BadInput if there is no such service."""
        containers = self._containers()
        if name not in containers:
            raise BadInput(f"there is no service {name!r}", f"there are {', '.join(sorted(containers)) or 'none'}")
        log = self.folder / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(self._compose.run("logs", "--no-color", "--no-log-prefix", name, timeout=command.QUICK),
                       encoding="utf-8")
        return log

    def api(self, state: StackState) -> AirflowApi:
        """Return a client for Airflow's API, logged in as the deployment's user."""
        return airflow.api(self.settings, state)

    def versions(self) -> dict[str, str | None]:
        """Return the versions of what the containers run, from the scheduler's container, and those of Docker."""
        packages = {name: package for name, package in environment.PACKAGES.items() if "wheel" not in name}
        found: dict[str, str | None] = json.loads(
            self._compose.run("exec", "-T", SCHEDULER, "python", "-c", VERSIONS, json.dumps(packages)))
        return {**found, "docker compose": command.compose_version(), "docker engine": command.engine_version()}

    def require_alive(self) -> None:
        """Raise ServiceDied, with the reason from its log, for the first service that has ended by itself.

        The engine's answer is reused for some seconds.
        """
        if time.monotonic() < self._alive_until:
            return
        if dead := self.dead():
            raise death(dead, self.log_of(dead[0]), "`rig down --stack compose`, then start again")
        self._alive_until = time.monotonic() + ALIVE_FOR

    def require_running(self) -> None:
        """Raise ServiceDied as above, and for a service that is paused."""
        self.require_alive()
        for name, container in self._containers().items():
            if container.is_paused:
                raise ServiceDied(f"{name} does not serve: its container is paused", "`docker compose unpause`")

    def worker_problem(self, *, tasks_run: Callable[[], bool]) -> str | None:
        """Ask the first worker. Each worker's health check asks it too, and makes the engine restart it."""
        if WORKER not in self._containers():
            return None
        return airflow.worker_problem(self._worker_finding, tasks_run=tasks_run)

    def require_preload(self, executor: Executor) -> None:     # noqa: ARG002 - the same on both
        """Raise BadInput: containers have no switch for it."""
        raise BadInput("containers cannot be measured with preloaded modules and without",
                       "use --stack native for that, or leave --preload out")

    # --- up, switch, down ----------------------------------------------------------------------

    def up(self, executor: Executor, *, slots: int, relay: Relay = "none",
           keeper: processes.Started | None = None) -> StackState:
        """Start the whole deployment. With ``keeper``, it belongs to that process and is stale without it.

        Raises BadInput if something is already there or prevents a start, ServiceDied or Hung if a service does not
        come up. In that case the containers are removed again.
        """
        wanted = self._wanted(executor, relay_on(executor, relay), slots)
        wanted.compose.require_settings()
        self._clear_stale()
        if keeper:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_private(self._keeper_file,
                          Kept(keeper=keeper, volumes=not self._compose.volumes()).model_dump_json())
        with self._nothing_half_started():
            self._on_step("images", "starting", "the first time this takes minutes")
            wanted.compose.run("build")
            self._on_step("images", "ready", "")
            self._bring_up(wanted)
        return self.state()

    def switch(self, executor: Executor, relay: Relay = "none", *, exhibit: bool = False,
               preload: bool = False) -> StackState:
        """Restart the scheduler on an executor, with or without worker, Flower and driver host. It must be idle."""
        if preload:
            self.require_preload(executor)
        state = self.state()
        self._remove(OF_EXECUTOR)
        self._compose.remove_volume(QUEUE)      # the stack is idle, so nobody needs what is in it
        wanted = self._wanted(executor, relay_on(executor, relay), state.slots, exhibit)
        self._bring_up(wanted, *wanted.services)
        return self.state()

    def restart(self, names: Sequence[str]) -> None:
        """Create the containers of these services again, for example after a hang."""
        if names:
            state = self.state()
            self._remove(names)
            self._bring_up(self._wanted(state.executor, state.relay, state.slots, state.exhibit), *names)

    @interrupts.put_off()
    def down(self) -> None:
        """Remove the containers and the network, and also the volumes if a comparison created them for itself."""
        kept = self._kept()
        self._on_step("containers", "stopping", "")
        self._compose.run("--profile", "*", "down", "--remove-orphans", "--timeout", str(STOP_WITHIN),
                          *(["--volumes"] if kept and kept.volumes else []), timeout=DOWN_WITHIN)
        self._keeper_file.unlink(missing_ok=True)
        self._on_step("containers", "stopped", "")

    # --- parts ---------------------------------------------------------------------------------

    def _containers(self) -> dict[str, Container]:
        """Return the containers by service; for a service with several, the first one."""
        found: dict[str, Container] = {}
        for container in sorted(self._compose.containers(), key=lambda item: item.number):
            found.setdefault(container.service, container)
        return found

    def _wanted(self, executor: Executor, relay: Relay, slots: int, exhibit: bool = False) -> "_Wanted":
        return _Wanted(executor, relay, slots, airflow.parallelism(self.settings, slots), exhibit)

    def _clear_stale(self) -> None:
        containers = self._containers()
        if not containers:
            return
        if self._kept() is None and SCHEDULER in containers and containers[SCHEDULER].is_running:
            raise BadInput(f"the deployment is up already ({_executor(containers[SCHEDULER].env)})",
                           "`rig status --stack compose` shows it, `rig switch --stack compose` changes its executor, "
                           "`rig down --stack compose` stops it")
        self._on_step("containers", "clearing", "what an earlier start left behind")
        self.down()

    def _bring_up(self, wanted: "_Wanted", *what: str) -> None:
        """Start only these services, or all of them, and wait until they serve."""
        self._on_step("containers", "starting", "")
        wanted.compose.run(*wanted.profiles, "up", "-d", *(["--no-deps", *what] if what else []),
                           timeout=self.settings.start_timeout)
        self._alive_until = 0.0
        containers = self._watched = self._containers()
        self._on_step("containers", "ready", "")
        state = self.state()
        with self.api(state) as api:
            checks = self._checks(state, containers, api)
            until_all_serve({name: checks[name] for name in what if name in checks} or checks,
                            limit=self.settings.start_timeout, every=CHECK_EVERY,
                            log_command="rig logs {} --stack compose",
                            ready=lambda name: self._on_step(name, "ready", ""))

    def _checks(self, state: StackState, containers: Mapping[str, Container], api: AirflowApi) -> dict[str, Check]:
        """Return for each present service the check whether it serves, the same as in the native stack."""
        made: dict[str, Callable[[], Check]] = {
            "neo4j": lambda: lambda: _neo4j_problem(state),
            API_SERVER: lambda: airflow.api_server({}, self.folder, api).check,
            "airflow-dag-processor": lambda: airflow.dag_processor({}, self.folder, api).check,
            SCHEDULER: lambda: airflow.scheduler({}, self.folder, api, state.executor,
                                                 since=containers[SCHEDULER].started_at).check,
            WORKER: lambda: lambda: self._worker_finding().problem,
            "flower": lambda: airflow.flower({}, self.folder, self.settings, state).check,
        }
        return {name: make() for name, make in made.items() if name in containers}

    def _worker_finding(self) -> Finding:
        """Return what is wrong with the (first) worker."""
        code, said = self._compose.ask("exec", "-T", WORKER, "python", "-m", "worker_init.takes_tasks")
        return Finding(said if code else None, takes_nothing=code == TAKES_NOTHING)

    def _url(self, service: str, state: StackState) -> str | None:
        host = airflow.reachable(self.settings.host)
        return {API_SERVER: f"http://{host}:{state.ports.get('airflow')}",
                "flower": f"http://{host}:{state.ports.get('flower')}", "neo4j": state.neo4j_uri}.get(service)

    def _secrets(self, containers: Mapping[str, Container]) -> Secrets:
        env = containers[SCHEDULER].env
        flower = containers["flower"].env if "flower" in containers else {}
        login = flower.get("AIRFLOW__CELERY__FLOWER_BASIC_AUTH", "")
        return Secrets(
            airflow=self.settings.airflow_password or AIRFLOWS_PASSWORD, postgres=AIRFLOWS_PASSWORD,
            redis=SecretStr(""), flower=SecretStr(login.partition(":")[2]), neo4j=SecretStr(env["NEO4J_PASSWORD"]),
            fernet=SecretStr(env["AIRFLOW__CORE__FERNET_KEY"]), jwt=SecretStr(env["AIRFLOW__API_AUTH__JWT_SECRET"]))

    def _remove(self, names: Iterable[str]) -> None:
        self._compose.run("--profile", "*", "rm", "--stop", "--force", "--volumes", *names)

    @contextmanager
    def _nothing_half_started(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.down()
            raise

    @property
    def _keeper_file(self) -> Path:
        return self.folder / "keeper.json"

    def _kept(self) -> Kept | None:
        try:
            return Kept.model_validate_json(self._keeper_file.read_text(encoding="utf-8"))
        except (OSError, ValidationError):
            return None


def _executor(env: Mapping[str, str]) -> Executor:
    return next(name for name in get_args(Executor) if name == env["AIRFLOW__CORE__EXECUTOR"])


def _relay(scheduler: Mapping[str, str], worker: Mapping[str, str]) -> Relay:
    if not worker:
        return "shared" if scheduler.get("NEO4J_WORKER_URI") else "none"
    if drivers.HOOKS not in worker.get(drivers.IMPORTS, ""):
        return "none"
    scope = worker.get("WORKER_INIT_SCOPE", "process")
    return "shared" if EARLIER_RELAYS.get(scope, scope) == "shared" else "process"


def _neo4j_problem(state: StackState) -> str | None:
    try:
        neo4j.require(state.neo4j_uri, state.neo4j_username, state.secrets.neo4j.get_secret_value(),
                      state.neo4j_database)
    except BadInput as error:
        return str(error)
    return None
