"""The whole stack as processes on this machine: started, switched, watched and taken down."""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from patterns.facts import STRESS_DAG, STRESS_POOL, Executor
from rig import environment, interrupts
from rig.airflow_api import AirflowApi
from rig.errors import BadInput, Hung, ServiceDied
from rig.records import TAP, Relay, relay_on
from rig.settings import Settings
from rig.stack import (
    airflow,
    asking,
    drivers,
    inherited,
    lock,
    neo4j,
    neo4j_jars,
    ports,
    postgres,
    processes,
    redis,
    tap,
)
from rig.stack import state as states
from rig.stack.interface import OnStep, ServiceStatus
from rig.stack.processes import MARK
from rig.stack.readiness import until_all_serve
from rig.stack.service import ENDED, Check, Service, death, reasons
from rig.stack.state import ServiceState, StackState, Tap

DRIVER_HOST = (drivers.HOST,)
EXECUTOR_SERVICES = ("airflow-scheduler", airflow.WORKER, "flower")
AIRFLOW_FIRST = (*EXECUTOR_SERVICES, "airflow-dag-processor", "airflow-apiserver")
CHECK_EVERY = 0.2       # seconds
PATIENCE = 6.0          # seconds for a clean end when nothing is kept: a worker would wait for its tasks


class NativeStack:
    """The stack of one data folder. All methods except the questions need the folder's lock.

    If ``tap`` is set, the stack that it starts has a tap in front of Neo4j.
    """

    def __init__(self, settings: Settings, on_step: OnStep = lambda *_: None, *, tap: bool = False) -> None:
        self.settings = settings
        self._tap = tap
        self.folder = settings.stack_dir
        self._on_step = on_step

    # --- questions -----------------------------------------------------------------------------

    def state(self) -> StackState:
        state = states.load(self.folder)
        if state is None:
            raise BadInput("no stack is running here", "`rig up` starts one")
        return state

    def is_there(self) -> bool:
        return self.folder.joinpath(states.STATE_FILE).exists() or any(processes.marked(str(self.folder)))

    def dead(self) -> list[str]:
        return [name for name, service in self.state().services.items() if not processes.find(service.process)]

    def status(self, *, within: float = asking.WITHIN) -> list[ServiceStatus]:
        state = self.state()
        unasked = {"neo4j"} if state.keeper or lock.is_held(self.settings.data_dir) else set[str]()
        with self.api(state) as api:
            checks = {service.name: service.check for service in self._services(state, api)
                      if service.name in state.services and service.name not in unasked}
            found = asking.problems(checks, ended=self._not_running(state), within=within)
        return [ServiceStatus(name=name, pid=started.process.pid, url=started.url, healthy=not found.get(name),
                              problem=found.get(name)) for name, started in state.services.items()]

    def log_of(self, name: str) -> Path:
        log = self.folder / "logs" / f"{name}.log"
        if not log.exists():
            known = ", ".join(sorted(path.stem for path in log.parent.glob("*.log"))) or "none"
            raise BadInput(f"there is no log of a service {name!r}", f"logs here: {known}")
        return log

    def api(self, state: StackState) -> AirflowApi:
        return airflow.api(self.settings, state)

    def versions(self) -> dict[str, str | None]:
        return environment.installed()

    def require_alive(self) -> None:
        if dead := self.dead():
            raise death(dead, self.log_of(dead[0]), "`rig down`, then start again")

    def require_running(self) -> None:
        self.require_alive()
        state = self.state()
        for name, problem in self._not_running(state).items():
            raise ServiceDied(f"{name} does not serve: {problem}", "`rig status` shows all services")

    def worker_problem(self, *, tasks_run: Callable[[], bool]) -> str | None:
        state = self.state()
        if state.executor != "CeleryExecutor":
            return None
        return airflow.worker_problem(lambda: airflow.worker_finding(state), tasks_run=tasks_run)

    def require_preload(self, executor: Executor) -> None:
        drivers.require_preload(executor, self._plain_env())

    # --- up, switch, down ----------------------------------------------------------------------

    def up(self, executor: Executor, *, slots: int, relay: Relay = "none",
           keeper: processes.Started | None = None) -> StackState:
        preload = drivers.is_preload_set(os.environ)
        if preload:
            self.require_preload(executor)
        self._clear_stale()
        server = self._external_neo4j()
        self._ports()       # a port in use is reported before anything is downloaded
        jars = None if server else self._jars()
        # Until everything serves, it belongs to this process: if this is killed now, nobody can use what it leaves.
        state = self._new_state(executor, slots, relay, processes.this_process(), preload=preload)
        with self._nothing_half_started():
            states.save(self.folder, state)
            self._start_all(state, jars)
            state.keeper = keeper
            states.save(self.folder, state)
        return state

    def switch(self, executor: Executor, relay: Relay = "none", *, exhibit: bool = False,
               preload: bool = False) -> StackState:
        if preload:
            self.require_preload(executor)
        state = self.state()
        self._stop(EXECUTOR_SERVICES, state)
        self._stop(DRIVER_HOST, state)
        state = state.model_copy(update={"executor": executor, "relay": relay_on(executor, relay),
                                         "exhibit": exhibit, "preload": preload})
        states.save(self.folder, state)
        with self.api(state) as api:
            self._prepare_executor(state)
            self._start(list(self._executor_services(state, api)), state)
        self._require_relay(state)
        return state

    def restart(self, names: Sequence[str]) -> None:
        state = self.state()
        if state.preload and not {*EXECUTOR_SERVICES}.isdisjoint(names):
            self.require_preload(state.executor)
        with self.api(state) as api:
            self._stop(list(names), state)
            self._start([service for service in self._services(state, api) if service.name in names], state)

    @interrupts.put_off()
    def down(self) -> None:
        try:
            state = states.load(self.folder)
        except BadInput:
            state = None
        if state:
            for names in (AIRFLOW_FIRST, list(state.services)):
                with suppress(OSError):     # a full disk: what can no longer be noted is about to be removed
                    self._stop(names, state, PATIENCE)
        processes.kill(list(processes.marked(str(self.folder))))
        if state:
            shutil.rmtree(state.temporary, ignore_errors=True)
        self._clear_folder()

    # --- parts ---------------------------------------------------------------------------------

    def _clear_stale(self) -> None:
        if not self.is_there():
            return
        state = states.load(self.folder)
        if state and state.keeper is None and not self.dead():
            raise BadInput(f"a stack is running here already ({state.executor}, since "
                           f"{time.strftime('%H:%M:%S', time.localtime(state.created_at))})",
                           "`rig status` shows it, `rig switch` changes its executor, `rig down` stops it")
        self._on_step("stack", "clearing", "what an earlier rig left behind")
        self.down()

    def _external_neo4j(self) -> str | None:
        settings = self.settings
        if settings.neo4j_uri is None or settings.neo4j_password is None:
            return None
        return neo4j.require(settings.neo4j_uri, settings.neo4j_username, settings.neo4j_password.get_secret_value(),
                             settings.neo4j_database)

    def _jars(self) -> Path:
        return neo4j_jars.ensure(self.settings.downloads_dir, lambda done, total: self._on_step(
            "neo4j", "downloading", f"{done} of {total} jars"))

    def _new_state(self, executor: Executor, slots: int, relay: Relay, keeper: processes.Started, *,
                   preload: bool) -> StackState:
        settings = self.settings
        own = settings.neo4j_uri is None
        chosen = self._ports()
        secrets = states.random_secrets(airflow=settings.airflow_password,
                                        neo4j=None if own else settings.neo4j_password)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        shutil.rmtree(self.folder / "logs", ignore_errors=True)
        (self.folder / "logs").mkdir()
        return StackState(
            executor=executor, relay=relay_on(executor, relay), slots=slots, ports=chosen, preload=preload,
            temporary=states.temporary_folder(), secrets=secrets, keeper=keeper, own_neo4j=own,
            neo4j_uri=settings.neo4j_uri or f"bolt://127.0.0.1:{chosen['neo4j']}",
            neo4j_username=settings.neo4j_username if not own else "neo4j",
            neo4j_database=settings.neo4j_database if not own else "neo4j",
            tap=self._new_tap(chosen) if self._tap else None)

    def _new_tap(self, chosen: Mapping[str, int]) -> Tap:
        given = {*self.settings.set_ports.values(), *chosen.values()}
        return tap.new(self.folder / TAP, ports.choose(0, variable="--tap", given=given))

    def _ports(self) -> dict[str, int]:
        settings = self.settings
        wanted = {"airflow": (settings.airflow_port, settings.host), "flower": (settings.flower_port, settings.host),
                  "postgres": (settings.postgres_port, "127.0.0.1"), "redis": (settings.redis_port, "127.0.0.1"),
                  "neo4j": (settings.neo4j_port, "127.0.0.1")}
        chosen: dict[str, int] = {}
        for name, (port, host) in wanted.items():
            chosen[name] = ports.choose(port, variable=f"RIG_{name.upper()}_PORT", host=host,
                                        given={*settings.set_ports.values(), *chosen.values()})
        return chosen

    def _start_all(self, state: StackState, jars: Path | None) -> None:
        # Another user's server and sockets are in it, so others must be able to pass through it, but not list it.
        state.temporary.mkdir()
        state.temporary.chmod(0o711)        # whatever the umask is
        state.drivers_dir.mkdir(mode=0o700)
        postgres.prepare(self.folder / "postgres", state.postgres_dir, state.secrets.postgres.get_secret_value())
        with self.api(state) as api:
            airflow.prepare(self._home, self.settings, state)
            # Neo4j takes the longest of these three, and is not needed before the first task.
            stores = list(self._stores(state, jars))
            self._launch(stores, state)
            self._wait([service for service in stores if service.name == "postgres"], state)
            self._migrate(state)
            # The scheduler must know the host's address, which only exists once the host serves.
            self._prepare_executor(state)
            rest = [*self._airflow_services(state, api), *self._executor_services(state, api)]
            self._launch(rest, state)
            self._wait([*stores, *rest], state)
            api.ensure_pool(STRESS_POOL, airflow.parallelism(self.settings, state.slots),
                            f"{STRESS_DAG} only")
        self._require_relay(state)
        if state.tap:
            neo4j.require(state.tasks_uri, state.neo4j_username, state.secrets.neo4j.get_secret_value(),
                          state.neo4j_database)

    def _require_relay(self, state: StackState) -> None:
        drivers.require_relay(state, self.folder / "logs" / f"{airflow.WORKER}.log")

    def _migrate(self, state: StackState) -> None:
        migration = airflow.migration(self._env(state), self._home)
        self._on_step(migration.name, "starting", "")
        log = self.folder / "logs" / f"{migration.name}.log"
        limit = self.settings.start_timeout
        code = processes.run(migration.command, env=migration.env, log=log, cwd=migration.cwd, timeout=limit)
        if code is None:
            raise Hung(f"airflow db migrate has not ended after {limit:.0f} s",
                       f"its log: {log}; RIG_START_TIMEOUT gives it more time")
        if code:
            raise ServiceDied(f"airflow db migrate ended with {code}; its log: {log}", detail=reasons(log))
        self._on_step(migration.name, "ready", "")

    def _services(self, state: StackState, api: AirflowApi) -> Iterator[Service]:
        yield from self._stores(state)
        yield from self._airflow_services(state, api)
        yield from self._driver_hosts(state)
        yield from self._executor_services(state, api)

    def _stores(self, state: StackState, jars: Path | None = None) -> Iterator[Service]:
        secrets = state.secrets
        if state.own_neo4j:
            yield neo4j.service(self.folder / "neo4j", jars or self._jars(), state.ports["neo4j"],
                                heap=self.settings.neo4j_heap, password=secrets.neo4j.get_secret_value(),
                                env=self._plain_env())
        moved = state.postgres_dir if state.postgres_dir.exists() else None
        yield postgres.service(self.folder / "postgres", moved, state.ports["postgres"],
                               secrets.postgres.get_secret_value(), self._plain_env())
        if state.tap:
            yield tap.service(state.tap, state.neo4j_uri, self._plain_env(), since=_since(TAP, state))
        yield redis.service(self.folder / "redis", state.ports["redis"], secrets.redis.get_secret_value(),
                            self._plain_env())

    def _airflow_services(self, state: StackState, api: AirflowApi) -> Iterator[Service]:
        yield airflow.api_server(self._env(state), self._home, api)
        yield airflow.dag_processor(self._env(state), self._home, api)

    def _driver_hosts(self, state: StackState) -> Iterator[Service]:
        if drivers.has_host(state):
            yield drivers.host(self._env(state), state)

    def _executor_services(self, state: StackState, api: AirflowApi) -> Iterator[Service]:
        env = self._env(state)
        yield airflow.scheduler({**drivers.of_preloading_scheduler(state), **env,
                                 **airflow.of_scheduler(self.settings, state), **drivers.of_scheduler(state)},
                                self._home, api, state.executor,
                                since=_since("airflow-scheduler", state))
        if state.executor == "CeleryExecutor":
            yield airflow.worker({**env, **drivers.of_worker(state)}, self._home, state)
            yield airflow.flower(env, self._home, self.settings, state)

    def _start(self, services: Sequence[Service], state: StackState) -> None:
        self._launch(services, state)
        self._wait(services, state)

    def _prepare_executor(self, state: StackState) -> None:
        drivers.prepare_host(state)
        drivers.write_plugin(state)
        self._start(list(self._driver_hosts(state)), state)

    def _launch(self, services: Sequence[Service], state: StackState) -> None:
        for service in services:
            self._on_step(service.name, "starting", "")
            started = processes.start(service.command, env=service.env, cwd=service.cwd, user=service.user,
                                      log=self.folder / "logs" / f"{service.name}.log")
            state.services[service.name] = ServiceState(process=started, url=service.url,
                                                        stop_signal=service.stop_signal,
                                                        stop_timeout=service.stop_timeout)
            states.save(self.folder, state)

    def _wait(self, services: Sequence[Service], state: StackState) -> None:
        urls = {service.name: service.url or "" for service in services}
        until_all_serve({service.name: self._alive_and_serving(service, state) for service in services},
                        limit=self.settings.start_timeout, every=CHECK_EVERY, log_command="rig logs {}",
                        ready=lambda name: self._on_step(name, "ready", urls[name]))

    def _alive_and_serving(self, service: Service, state: StackState) -> Check:
        def problem() -> str | None:
            if not processes.find(state.services[service.name].process):
                raise death([service.name], self.log_of(service.name))
            return service.check()
        return problem

    def _stop(self, names: Sequence[str], state: StackState, patience: float | None = None) -> None:
        wanted = [name for name in names if name in state.services]
        with ThreadPoolExecutor(max(1, len(wanted))) as pool:
            list(pool.map(lambda name: self._stop_one(name, state.services[name], patience), wanted))
        for name in wanted:
            del state.services[name]
        states.save(self.folder, state)

    def _stop_one(self, name: str, service: ServiceState, patience: float | None) -> None:
        self._on_step(name, "stopping", "")
        timeout = service.stop_timeout if patience is None else min(patience, service.stop_timeout)
        processes.stop(service.process, timeout=timeout, sign=service.stop_signal)
        # If the scheduler died by itself, its children are left: LocalExecutor's go on with their tasks.
        processes.kill(list(processes.session_of(service.process.pid, str(self.folder))))
        self._on_step(name, "stopped", "")

    @contextmanager
    def _nothing_half_started(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.down()
            raise

    def _clear_folder(self) -> None:
        for path in self.folder.iterdir() if self.folder.exists() else []:
            if path.name == "logs":
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _not_running(self, state: StackState) -> dict[str, str]:
        dead = set(self.dead())
        stopped = "it is stopped; `kill -CONT {}` lets it go on"
        return {name: f"it {ENDED}" if name in dead else stopped.format(service.process.pid)
                for name, service in state.services.items() if name in dead or processes.is_stopped(service.process)}

    @property
    def _home(self) -> Path:
        return self.folder / "airflow"

    def _plain_env(self) -> dict[str, str]:
        local = ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1", "localhost"]))
        # Without SPT_NOENV, the process titles that Celery and Airflow set would overwrite the mark.
        return {**inherited.of(os.environ, self.settings.inherited), MARK: str(self.folder), "SPT_NOENV": "1",
                "NO_PROXY": local, "no_proxy": local}

    def _env(self, state: StackState) -> dict[str, str]:
        return {**self._plain_env(), **airflow.environment(self.settings, state, self._home),
                "NEO4J_URI": state.tasks_uri, "NEO4J_USERNAME": state.neo4j_username,
                "NEO4J_PASSWORD": state.secrets.neo4j.get_secret_value(), "NEO4J_DATABASE": state.neo4j_database,
                drivers.CONNECTION: drivers.connection(state)}


def _since(name: str, state: StackState) -> float:
    """Return when a service was started; now, where it is about to be."""
    running = state.services.get(name)
    return running.process.started_at if running else time.time()
