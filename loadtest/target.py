"""What is tested and with which login, from the environment: other users could read passwords in arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self, TypeVar

from pydantic import SecretStr

from patterns.facts import EXECUTORS, Executor
from rig.airflow_api import AirflowApi
from rig.errors import BadInput
from rig.probe import Server
from rig.records import RELAYS, Relay

DEFAULT_AIRFLOW = "http://127.0.0.1:8080"

AnyName = TypeVar("AnyName", bound=str)


@dataclass(frozen=True)
class Target:
    """A deployment of Airflow, and what can be watched of it: its Neo4j, its Flower, its stack on this machine.

    ``executor`` and ``relay`` are None if the user has not named them.
    """

    airflow: str
    username: str
    password: SecretStr = field(repr=False)
    token: SecretStr | None = field(default=None, repr=False)
    executor: Executor | None = None
    relay: Relay | None = None
    neo4j: Server | None = None
    flower: str | None = None
    flower_password: SecretStr = field(default=SecretStr(""), repr=False)
    stack: Path | None = None

    def at(self, url: str | None) -> Self:
        """Return the target with another address of its API, as Locust's form may name one; the rest is the same."""
        url = (url or self.airflow).rstrip("/")
        return self if url == self.airflow else replace(self, airflow=url, executor=None, relay=None)

    def api(self) -> AirflowApi:
        """Return a client for the deployment's API. It logs in at the first call."""
        if self.token is not None:
            return AirflowApi.with_token(self.airflow, self.token)
        return AirflowApi(self.airflow, self.username, self.password)


def of(environ: Mapping[str, str]) -> Target:
    """Read the target from the variables in docs/loadtest.md. Raises BadInput for an unknown executor or relay."""
    return Target(
        airflow=_set(environ, "LOADTEST_AIRFLOW_URL", DEFAULT_AIRFLOW).rstrip("/"),
        username=_set(environ, "LOADTEST_AIRFLOW_USERNAME", "airflow"),
        password=SecretStr(_set(environ, "LOADTEST_AIRFLOW_PASSWORD", "airflow")),
        token=SecretStr(token) if (token := environ.get("LOADTEST_AIRFLOW_TOKEN")) else None,
        executor=_one_of(environ, "LOADTEST_EXECUTOR", EXECUTORS), relay=_one_of(environ, "LOADTEST_RELAY", RELAYS),
        neo4j=_server(environ),
        flower=environ.get("LOADTEST_FLOWER_URL", "").rstrip("/") or None,
        flower_password=SecretStr(environ.get("LOADTEST_FLOWER_PASSWORD", "")),
        stack=Path(stack) if (stack := environ.get("LOADTEST_STACK")) else None)


def _server(environ: Mapping[str, str]) -> Server | None:
    uri, password = environ.get("NEO4J_URI"), environ.get("NEO4J_PASSWORD")
    if not uri or not password:
        return None
    # Unless the user says that nobody else uses the server, its count is a lower bound.
    return Server(uri, _set(environ, "NEO4J_USERNAME", "neo4j"), SecretStr(password),
                  alone=environ.get("LOADTEST_NEO4J_IS_ELSEWHERE", "yes") in {"", "no"})


def _one_of(environ: Mapping[str, str], variable: str, known: Sequence[AnyName]) -> AnyName | None:
    name = environ.get(variable)
    if name and name not in known:
        raise BadInput(f"{variable} is {name}", f"set it to one of {', '.join(known)}")
    return next((one for one in known if one == name), None)


def _set(environ: Mapping[str, str], name: str, default: str) -> str:
    return environ.get(name) or default     # an empty variable counts as not set
