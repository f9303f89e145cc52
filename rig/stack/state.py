"""The running stack, as another ``rig`` finds it: one file, mode 0600, because it contains the passwords."""

import secrets
import signal
import tempfile
import time
from pathlib import Path

from pydantic import BaseModel, Field, SecretStr, ValidationError, field_serializer

from patterns.facts import Executor
from rig.errors import BadInput, RigError
from rig.records import Relay
from rig.stack.processes import Started
from rig.whole_file import write_private

STATE_FILE = "state.json"


def _random(size: int = 24) -> SecretStr:
    """Return a password of ``size`` random bytes."""
    return SecretStr(secrets.token_urlsafe(size))


class Secrets(BaseModel):
    """Passwords and keys, random for each stack unless the user has set one."""

    airflow: SecretStr
    driver_host: SecretStr = Field(default_factory=_random)     # the state of an earlier rig has none
    fernet: SecretStr
    flower: SecretStr
    jwt: SecretStr
    neo4j: SecretStr
    postgres: SecretStr
    redis: SecretStr

    @field_serializer("*", when_used="json")
    def _reveal(self, value: SecretStr) -> str:
        return value.get_secret_value()


class ServiceState(BaseModel):
    """A service that was started, and how to stop it. ``stop_timeout`` is in seconds."""

    process: Started
    url: str | None
    stop_signal: signal.Signals
    stop_timeout: float


class Tap(BaseModel):
    """A TCP proxy in front of Neo4j: where it listens, and the file with a byte for each connection passed on."""

    uri: str
    port: int
    file: Path

    def opened(self) -> int:
        """Return how many connections it has passed on since the stack was started, a restart of its own included.

        Raises RigError if its file cannot be read any more.
        """
        try:
            return self.file.stat().st_size
        except OSError as error:
            raise RigError(f"what the tap has counted in {self.file} cannot be read: {error.strerror}",
                           "start the comparison again, and leave its data folder alone meanwhile") from error


class StackState(BaseModel):
    """Everything that is needed to use a running stack, to switch it and to take it down."""

    executor: Executor
    relay: Relay = "none"
    exhibit: bool = False           # its workers open a driver that tasks inherit, to show what breaks
    preload: bool = False           # its worker, or LocalExecutor's scheduler, imports modules before it forks
    slots: int
    created_at: float = Field(default_factory=time.time)
    ports: dict[str, int]
    secrets: Secrets
    neo4j_uri: str
    neo4j_username: str
    neo4j_database: str
    own_neo4j: bool
    tap: Tap | None = None          # what tasks and driver hosts connect to in place of the server
    temporary: Path                 # a folder with a short path outside the stack's own, removed together with it
    services: dict[str, ServiceState] = {}
    keeper: Started | None = None   # the `rig compare` that started it only for itself

    @property
    def tasks_uri(self) -> str:
        """Where tasks and driver hosts find Neo4j. The rig itself goes to ``neo4j_uri``, past a tap."""
        return self.tap.uri if self.tap else self.neo4j_uri

    @property
    def drivers_dir(self) -> Path:
        """The folder for the sockets of driver hosts. The path of a Unix socket has at most 107 characters."""
        return self.temporary / "drivers"

    @property
    def plugins_dir(self) -> Path:
        """Where LocalExecutor's scheduler finds the plugin that preloads modules."""
        return self.temporary / "plugins"

    @property
    def postgres_dir(self) -> Path:
        """The folder for Postgres if it must not run as this user."""
        return self.temporary / "postgres"


def temporary_folder() -> Path:
    """Return the path of a new folder under the system's temporary one, so that the state knows it before it exists."""
    return Path(tempfile.gettempdir(), f"rig-{secrets.token_hex(6)}")


def random_secrets(*, airflow: SecretStr | None, neo4j: SecretStr | None) -> Secrets:
    """Create a set of secrets, keeping those that the user has set."""
    from cryptography.fernet import Fernet  # noqa: PLC0415 - slow to import, and only needed here

    return Secrets(airflow=airflow or _random(12), fernet=SecretStr(Fernet.generate_key().decode()), flower=_random(12),
                   jwt=_random(64), neo4j=neo4j or _random(), postgres=_random(), redis=_random())


def save(folder: Path, state: StackState) -> None:
    """Write the stack's state into its folder."""
    write_private(folder / STATE_FILE, state.model_dump_json(indent=2))


def load(folder: Path) -> StackState | None:
    """Return the state of the stack that was started in this folder; None if there is none.

    Raises BadInput if the file exists but is not a readable state.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    try:
        return StackState.model_validate_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not the state of a stack", "`rig down` clears what it left") from error
