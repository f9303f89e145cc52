"""Every setting of the rig, read once from the environment and ``.env`` into one immutable object.

The environment takes precedence over ``.env``. ``.env.example`` documents each name; a test fails if one is missing
there.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from rig.errors import BadInput

PROJECT = Path(__file__).resolve().parents[1]
NEO4J_SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")
SHORTEST_PASSWORD = 8       # Neo4j's own rule; with a shorter one, a server started by the rig would never be ready
PORTS = ("airflow_port", "flower_port", "postgres_port", "redis_port", "neo4j_port")
# Variables of worker_init: each driver host of a worker takes the next port.
METRICS_PORT, HOSTS = "WORKER_INIT_METRICS_PORT", "WORKER_INIT_HOSTS"
ENV_FILE_VARIABLE = "RIG_ENV_FILE"       # names another file than .env; it cannot be set in one
FIX = "fix it in .env or in the environment; .env.example explains each setting"

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Settings(BaseSettings):
    """The settings of a user. A port of 0 means that a free one is chosen; durations are in seconds."""

    model_config = SettingsConfigDict(
        env_file=PROJECT / ".env", env_prefix="RIG_", env_ignore_empty=True, extra="ignore",
        frozen=True, populate_by_name=True,
    )

    # No prefix, as in the seed and in Airflow's own compose file.
    neo4j_uri: str | None = Field(None, validation_alias="NEO4J_URI")
    neo4j_username: str = Field("neo4j", validation_alias="NEO4J_USERNAME")
    neo4j_password: SecretStr | None = Field(None, validation_alias="NEO4J_PASSWORD")
    neo4j_database: str = Field("neo4j", validation_alias="NEO4J_DATABASE")
    airflow_uid: int = Field(50000, validation_alias="AIRFLOW_UID", ge=0)
    airflow_proj_dir: Path = Field(PROJECT, validation_alias="AIRFLOW_PROJ_DIR")
    airflow_username: str = Field("airflow", validation_alias="_AIRFLOW_WWW_USER_USERNAME")
    airflow_password: SecretStr | None = Field(None, validation_alias="_AIRFLOW_WWW_USER_PASSWORD")

    data_dir: Path = PROJECT / "results"
    cache_dir: Path | None = None
    inherit: str | None = None
    host: str = "127.0.0.1"
    airflow_port: Port = 0
    flower_port: Port = 0
    postgres_port: Port = 0
    redis_port: Port = 0
    neo4j_port: Port = 0
    neo4j_heap: str = "512m"
    slots: int = Field(16, ge=1, le=1000)
    parallelism: int | None = Field(None, ge=1, le=10_000)
    sample_interval: Seconds = 0.1
    run_timeout: Seconds = 600
    start_timeout: Seconds = 240
    drain_timeout: Seconds = 600

    @field_validator("neo4j_uri")
    @classmethod
    def _a_neo4j_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        return neo4j_address(value)

    @field_validator("host")
    @classmethod
    def _one_address(cls, value: str) -> str:
        if not re.fullmatch(r"[\w.-]+", value):
            raise ValueError("expected an IPv4 address or a host name")
        return value

    @field_validator("inherit")
    @classmethod
    def _names(cls, value: str | None) -> str | None:
        if not all(re.fullmatch(r"[A-Za-z_]\w*", name) for name in _listed(value or "")):
            raise ValueError("expected names of variables, with commas between them")
        return value

    @field_validator("neo4j_heap")
    @classmethod
    def _a_size(cls, value: str) -> str:
        if not re.fullmatch(r"\d+[kmgKMG]", value):
            raise ValueError("expected a number with k, m or g, as 512m")
        return value

    @field_validator("airflow_proj_dir", "data_dir", "cache_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else (PROJECT / value.expanduser()).resolve()

    @model_validator(mode="after")
    def _a_server_needs_a_password(self) -> "Settings":
        if self.neo4j_uri and self.neo4j_password is None:
            raise ValueError("NEO4J_URI is set and NEO4J_PASSWORD is not: set both, or neither, and the rig "
                             "starts a server itself")
        return self

    @model_validator(mode="after")
    def _an_own_server_takes_the_password(self) -> "Settings":
        password = self.neo4j_password
        if not self.neo4j_uri and password and len(password.get_secret_value()) < SHORTEST_PASSWORD:
            raise ValueError("NEO4J_PASSWORD: expected at least "
                             f"{SHORTEST_PASSWORD} characters, for the server that the rig starts")
        return self

    @model_validator(mode="after")
    def _ports_of_their_own(self) -> "Settings":
        if problem := one_port_twice(self.set_ports):
            raise ValueError(problem)
        return self

    @property
    def set_ports(self) -> dict[str, int]:
        """The ports that the user has set, by variable; also those for metrics, if services inherit the variables."""
        own = {variable_of(field): int(getattr(self, field)) for field in PORTS}
        return {name: port for name, port in {**own, **self._metrics_ports()}.items() if port}

    def _metrics_ports(self) -> dict[str, int]:
        first, hosts = (os.environ.get(name, "") if name in self.inherited else "" for name in (METRICS_PORT, HOSTS))
        if not first.isdecimal():       # worker_init itself reports a value that is not a number
            return {}
        more = range(1, int(hosts) if hosts.isdecimal() else 1)
        return {METRICS_PORT: int(first)} | ({f"{METRICS_PORT} + {each}": int(first) + each for each in more}
                                             if int(first) else {})

    @property
    def inherited(self) -> tuple[str, ...]:
        """The variables that services inherit in addition to those that they always inherit."""
        return _listed(self.inherit or "")

    @property
    def dags_folder(self) -> Path:
        """The folder in which Airflow finds the DAGs."""
        return self.airflow_proj_dir / "dags"

    @property
    def stack_dir(self) -> Path:
        """The folder for everything that belongs to the running stack."""
        return self.data_dir / ".stack"

    @property
    def downloads_dir(self) -> Path:
        """The folder for downloads, which are kept."""
        return self.cache_dir or self.data_dir / ".cache"


def one_port_twice(wanted: Mapping[str, int]) -> str | None:
    """Return an error text if two of these variables and options have the same port; None if none do."""
    taken = Counter(wanted.values())
    twice = [name for name, port in wanted.items() if taken[port] > 1]
    return f"{' and '.join(twice)} are the same: expected a port for each, or 0 for a free one" if twice else None


def variable_of(field: str) -> str:
    """Return the environment variable that sets a field of :class:`Settings`."""
    alias = Settings.model_fields[field].validation_alias
    return str(alias) if alias else f"RIG_{field.upper()}"


@cache
def load() -> Settings:
    """Read the settings. Raises BadInput with the variable's name and the values that it accepts.

    The present value is not repeated, because it may be a password. RIG_ENV_FILE names another file than ``.env``.
    """
    named = os.environ.get(ENV_FILE_VARIABLE)
    file = Path(named or str(Settings.model_config["env_file"]))
    if named and not file.exists():
        raise BadInput(f"{ENV_FILE_VARIABLE} is {file}, which does not exist", "name an existing file, or unset it")
    try:
        return Settings(_env_file=file)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        raise BadInput(f"{_name(detail['loc'])}{_reason(detail['msg'])}", FIX) from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}",
                       "make it a text file (UTF-8) that this user may read") from error


def _listed(names: str) -> tuple[str, ...]:
    return tuple(name for part in names.split(",") if (name := part.strip()))


def neo4j_address(value: str) -> str:
    """Return the address of a Neo4j. Raises ValueError, without the value, if it is not an address or contains more."""
    # This comes first, wherever it stands: a message about the rest could repeat the password.
    if "@" in value:
        raise ValueError("the user and the password go into NEO4J_USERNAME and NEO4J_PASSWORD")
    if "?" in value or "#" in value:
        raise ValueError("expected no routing context (?…): Airflow's connection for Neo4jHook cannot hold one, "
                         "and the patterns would not reach the same servers")
    if not _is_neo4j_address(value):
        raise ValueError(f"expected <scheme>://<host>[:<port>] with one of {', '.join(NEO4J_SCHEMES)}")
    return value


def _is_neo4j_address(value: str) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in NEO4J_SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:      # what stands for a port is not one, or the brackets of an IPv6 address do not match
        return False


def _name(location: tuple[int | str, ...]) -> str:
    if not location:
        return ""
    name = str(location[0])
    return f"{variable_of(name) if name in Settings.model_fields else name}: "


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ")
