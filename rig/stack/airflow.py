"""Airflow's services and their configuration, which is the same on both executors except for the executor itself."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from patterns.facts import DAG_IDS, MOST_TASKS, Executor
from rig.airflow_api import AirflowApi
from rig.errors import RigError
from rig.settings import Settings
from rig.stack import postgres, redis
from rig.stack.service import Service
from rig.stack.state import StackState
from rig.whole_file import write_private
from worker_init import takes_tasks
from worker_init.takes_tasks import Finding

WORKER = "airflow-worker"
"""The Celery worker's name, as a service."""

COMMAND = Path(sys.executable).parent / "airflow"
BROKER_SECONDS = 4.0    # for an answer of Redis
ASKED = 3               # times, before a worker that runs no task is said not to answer; each takes two seconds
PASSWORDS_FILE = "passwords.json"

Health = Mapping[str, Mapping[str, str | None]]


def environment(settings: Settings, state: StackState, home: Path) -> dict[str, str]:
    """Return Airflow's configuration for every process, without the executor.

    Slots are the same on both executors, and nothing else is the limit: see the fairness traps in docs/method.md. For
    LocalExecutor, ``core.parallelism`` is its number of processes; CeleryExecutor's scheduler has its own value.
    """
    slots, api = str(state.slots), f"http://{reachable(settings.host)}:{state.ports['airflow']}"
    database = postgres.url(state.ports["postgres"], state.secrets.postgres.get_secret_value(), "postgresql+psycopg2")
    jwt = state.secrets.jwt.get_secret_value()
    sections = {
        "CORE": {
            "DAGS_FOLDER": str(settings.dags_folder), "LOAD_EXAMPLES": "False", "DAGS_ARE_PAUSED_AT_CREATION": "True",
            "FERNET_KEY": state.secrets.fernet.get_secret_value(), "EXECUTION_API_SERVER_URL": f"{api}/execution/",
            "SIMPLE_AUTH_MANAGER_USERS": f"{settings.airflow_username}:admin",
            "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / PASSWORDS_FILE),
            "PARALLELISM": slots, "MAX_ACTIVE_TASKS_PER_DAG": slots, "MAX_MAP_LENGTH": str(MOST_TASKS),
            "DEFAULT_POOL_TASK_SLOT_COUNT": str(max(128, parallelism(settings, state.slots))),
        },
        "DATABASE": {"SQL_ALCHEMY_CONN": database},
        "API": {"HOST": settings.host, "PORT": str(state.ports["airflow"]), "BASE_URL": api, "WORKERS": "1",
                "SECRET_KEY": jwt},
        "API_AUTH": {"JWT_SECRET": jwt},
        "SCHEDULER": {"MAX_TIS_PER_QUERY": str(max(16, state.slots)), "ENABLE_HEALTH_CHECK": "False"},
        "DAG_PROCESSOR": {"PARSING_PROCESSES": "1"},
        "LOGGING": {"BASE_LOG_FOLDER": str(home / "logs"), "COLORED_CONSOLE_LOG": "False"},
        "CELERY": {
            "BROKER_URL": _broker(state),
            "RESULT_BACKEND": f"db+{database}", "WORKER_CONCURRENCY": slots,
            # Publishing from a forked pool can make the scheduler hang.
            "SYNC_PARALLELISM": "1",
            # LocalExecutor always copies a task's log to its own output. The worker does the same here.
            "TASK_LOGS_TO_STDOUT": "True",
            "FLOWER_BASIC_AUTH": f"{settings.airflow_username}:{state.secrets.flower.get_secret_value()}",
        },
    }
    flat = {f"AIRFLOW__{section}__{key}": value for section, keys in sections.items() for key, value in keys.items()}
    return {"AIRFLOW_HOME": str(home), **flat}


def parallelism(settings: Settings, slots: int) -> int:
    """Return how many tasks CeleryExecutor's scheduler hands out, including those that wait in Redis.

    If this equals the workers' slots, a slot that becomes free stays free until the scheduler looks again. Twice as
    many is the ratio of Airflow's own defaults, 32 to 16. LocalExecutor does not count the tasks that it hands out.
    """
    return settings.parallelism or 2 * slots


def of_scheduler(settings: Settings, state: StackState) -> dict[str, str]:
    """Return the variables that only the scheduler has on CeleryExecutor."""
    if state.executor != "CeleryExecutor":
        return {}
    return {"AIRFLOW__CORE__PARALLELISM": str(parallelism(settings, state.slots))}


def prepare(home: Path, settings: Settings, state: StackState) -> None:
    """Create Airflow's folder, with the password of its only user in a private file."""
    home.mkdir(parents=True, exist_ok=True)
    write_private(home / PASSWORDS_FILE,
                  json.dumps({settings.airflow_username: state.secrets.airflow.get_secret_value()}))


def migration(env: Mapping[str, str], home: Path) -> Service:
    """Return the program that creates the metadata tables; it ends by itself."""
    return Service(name="airflow-init", command=[COMMAND, "db", "migrate"], env=env, cwd=home, check=lambda: None)


def api_server(env: Mapping[str, str], home: Path, api: AirflowApi) -> Service:
    """Return the API server, which also serves the web pages."""
    return Service(name="airflow-apiserver", command=[COMMAND, "api-server"], env=env, cwd=home,
                   check=lambda: _problem(api, lambda health: None if health["metadatabase"]["status"] == "healthy"
                                          else "its database is not healthy"),
                   url=api.url)


def dag_processor(env: Mapping[str, str], home: Path, api: AirflowApi) -> Service:
    """Return the DAG processor. It is ready when every DAG of the project is there and none failed to import."""
    def check() -> str | None:
        return _problem(api, lambda health: _unhealthy(health, "dag_processor") or _dags_missing(api))
    return Service(name="airflow-dag-processor", command=[COMMAND, "dag-processor"], env=env, cwd=home, check=check)


def scheduler(env: Mapping[str, str], home: Path, api: AirflowApi, executor: Executor, *, since: float) -> Service:
    """Return the scheduler on an executor. It is ready when it has a heartbeat later than ``since``.

    ``since`` is the moment of its start, because a heartbeat of an earlier scheduler does not count.
    """
    # Without this option, LocalExecutor starts a log server on a fixed port of every interface.
    return Service(name="airflow-scheduler", command=[COMMAND, "scheduler", "--skip-serve-logs"], cwd=home,
                   env={**env, "AIRFLOW__CORE__EXECUTOR": executor},
                   check=lambda: _problem(api, lambda health: _no_heartbeat(health, since)))


def worker(env: Mapping[str, str], home: Path, state: StackState) -> Service:
    """Return the Celery worker. It is ready when it takes what is put into its queue."""
    return Service(name=WORKER, command=[COMMAND, "celery", "worker", "--skip-serve-logs"], cwd=home,
                   env={**env, "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"},
                   check=lambda: worker_finding(state).problem)


def flower(env: Mapping[str, str], home: Path, settings: Settings, state: StackState) -> Service:
    """Return Flower. It is ready when its health check answers."""
    port = state.ports["flower"]
    url = f"http://{reachable(settings.host)}:{port}"
    return Service(name="flower", cwd=home, url=url, env={**env, "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor"},
                   command=[COMMAND, "celery", "flower", "--hostname", settings.host, "--port", str(port)],
                   check=lambda: _http_problem(f"{url}/healthcheck"))


def _broker(state: StackState) -> str:
    return redis.url(state.ports["redis"], state.secrets.redis.get_secret_value())


def api(settings: Settings, state: StackState) -> AirflowApi:
    """Return the API of one of the rig's own stacks, logged in as its user."""
    return AirflowApi(f"http://{reachable(settings.host)}:{state.ports['airflow']}", settings.airflow_username,
                      state.secrets.airflow)


def reachable(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on ``host``."""
    return "127.0.0.1" if host in {"0.0.0.0", "::"} else host     # noqa: S104 - only where the user said so


def _problem(api: AirflowApi, judge: Callable[[Health], str | None]) -> str | None:
    try:
        return judge(api.health())
    except RigError as error:
        return str(error)


def _unhealthy(health: Health, part: str) -> str | None:
    status = health[part]["status"]
    return None if status == "healthy" else f"Airflow says that its {part} is {status or 'not there'}"


def _no_heartbeat(health: Health, since: float) -> str | None:
    beat = AirflowApi.seconds(health["scheduler"]["latest_scheduler_heartbeat"])
    if beat is None or beat < since:
        return "no heartbeat of this scheduler yet"
    return _unhealthy(health, "scheduler")


def _dags_missing(api: AirflowApi) -> str | None:
    if errors := api.import_errors():
        return f"DAGs that cannot be imported: {'; '.join(errors)}"
    missing = sorted(set(DAG_IDS) - set(api.dag_ids()))
    return f"not parsed yet: {', '.join(missing)}" if missing else None


def worker_finding(state: StackState, name: str | None = None) -> Finding:
    """Return whether the stack's Celery worker takes what is put into its queue. A worker may answer and not do so.

    ``name`` is Celery's name of the worker that is meant, if there are several.
    """
    with takes_tasks.app_of(_broker(state), BROKER_SECONDS) as app:
        try:
            return takes_tasks.examine(app, name)
        except (OperationalError, RedisError, OSError) as error:
            return Finding(f"the broker does not answer: {' '.join(str(error).split()) or type(error).__name__}")


def worker_problem(ask: Callable[[], Finding], *, tasks_run: Callable[[], bool]) -> str | None:
    """Return what is wrong with a worker that takes no tasks, else None. ``ask`` asks it.

    A worker that does not answer may be busy with its tasks, so it counts only if none run: ``tasks_run`` says whether
    some do, of any DAG run.
    """
    problem = None
    for _ in range(ASKED):
        finding = ask()
        if finding.takes_nothing:
            return finding.problem
        if not finding.is_silent or tasks_run():
            return None
        problem = finding.problem
    return problem


def _http_problem(url: str) -> str | None:
    try:
        response = httpx.get(url, timeout=5, trust_env=False)
    except httpx.HTTPError as error:
        return str(error)
    return None if response.status_code == httpx.codes.OK else f"it answers {response.status_code}"
