"""A deployment that somebody else operates, with the interface of the native stack. It is observed, never changed."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import SecretStr

from patterns.facts import DAG_OF_PATTERN, Executor
from rig.airflow_api import AirflowApi
from rig.errors import BadInput
from rig.records import Relay
from rig.settings import Settings
from rig.stack import asking
from rig.stack.interface import ServiceStatus
from rig.stack.processes import Started
from rig.stack.state import Secrets, StackState

UNKNOWN = SecretStr("")
NOT_OURS = "operate it with its own tools: the rig changes nothing there"


class ExistingStack:
    """A deployment behind an API server. ``NEO4J_URI`` and the other variables name the server that its tasks use.

    ``executor`` is given by the user, because Airflow's API does not say it.
    """

    def __init__(self, settings: Settings, url: str, token: SecretStr, executor: Executor) -> None:
        self.settings = settings
        self._executor: Executor = executor
        self._url = url.rstrip("/")
        self._token = token

    def state(self) -> StackState:
        """Return what can be known about the deployment.

        Raises BadInput if it lacks our DAGs or if no Neo4j is named, ApiError if it refuses the login.
        """
        settings = self.settings
        if settings.neo4j_uri is None or settings.neo4j_password is None:
            raise BadInput("it is not known which Neo4j the deployment uses",
                           "set NEO4J_URI, NEO4J_USERNAME and NEO4J_PASSWORD to the server that its tasks use")
        with AirflowApi.with_token(self._url, self._token) as api:
            self._require_dags(api)
        secrets = Secrets(airflow=UNKNOWN, fernet=UNKNOWN, flower=UNKNOWN, jwt=UNKNOWN, postgres=UNKNOWN,
                          redis=UNKNOWN, neo4j=settings.neo4j_password)
        return StackState(executor=self._executor, slots=settings.slots, ports={}, secrets=secrets, own_neo4j=False,
                          neo4j_uri=settings.neo4j_uri, neo4j_username=settings.neo4j_username,
                          neo4j_database=settings.neo4j_database, temporary=settings.stack_dir)

    def is_there(self) -> bool:
        """Return True: the rig does not start it."""
        return True

    def dead(self) -> list[str]:
        """Return nothing: the rig cannot watch its services."""
        return []

    def status(self, *, within: float = asking.WITHIN) -> list[ServiceStatus]:
        """Raise BadInput: the deployment has its own tools."""
        raise BadInput("the services of this deployment are not known here", NOT_OURS)

    def log_of(self, name: str) -> Path:
        """Raise BadInput: the deployment has its own tools."""
        raise BadInput(f"the log of {name!r} is not here", NOT_OURS)

    def api(self, state: StackState) -> AirflowApi:
        """Return a client for its API, with the user's token."""
        return AirflowApi.with_token(self._url, self._token)

    def versions(self) -> dict[str, str | None]:
        """Return what the API says."""
        with AirflowApi.with_token(self._url, self._token) as api:
            return {"airflow": api.version(), "stack": f"an existing deployment, {self._url}: never restarted"}

    def require_alive(self) -> None:
        """Do nothing: if the deployment is gone, calls to the API say so."""

    def require_running(self) -> None:
        """Do nothing, as above."""

    def worker_problem(self, *, tasks_run: Callable[[], bool]) -> str | None:
        """Return None: its broker cannot be asked from here."""
        return None

    def require_preload(self, executor: Executor) -> None:
        """Raise BadInput: the rig never changes it."""
        raise BadInput("an existing deployment is never changed: what it preloads cannot be switched",
                       "leave --preload out")

    def up(self, executor: Executor, *, slots: int, relay: Relay = "none",
           keeper: Started | None = None) -> StackState:
        """Raise BadInput: the rig does not start it."""
        raise BadInput("the rig does not start an existing deployment", NOT_OURS)

    def switch(self, executor: Executor, relay: Relay = "none", *, exhibit: bool = False,
               preload: bool = False) -> StackState:
        """Leave the deployment as it is. Raises BadInput if it would have to be changed."""
        state = self.state()
        if preload:
            self.require_preload(executor)
        if executor != state.executor or exhibit:
            raise BadInput(f"the deployment runs on {state.executor} and cannot be switched from here", NOT_OURS)
        return state.model_copy(update={"relay": relay})

    def restart(self, names: Sequence[str]) -> None:
        """Do nothing."""

    def down(self) -> None:
        """Do nothing."""

    def _require_dags(self, api: AirflowApi) -> None:
        if missing := sorted(set(DAG_OF_PATTERN.values()) - set(api.dag_ids())):
            raise BadInput(f"{self._url} has no DAG {', '.join(missing)}",
                           "put dags/ there, and install this project and the neo4j driver where its tasks run")
