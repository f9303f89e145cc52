"""The package's settings: read once from the environment, and not changed after that.

``VARIABLES`` is the complete list, with defaults and meanings. Times are in seconds.
"""

import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from worker_init.connection_ids import ConnectionIds
from worker_init.control import is_private
from worker_init.errors import BadSetting

PREFIX = "WORKER_INIT_"
Scope = Literal["process", "shared"]
_EARLIER_SCOPES = {"worker": "shared"}


class Variable(NamedTuple):
    """One setting: its name without the prefix, its default as a user would write it, and its meaning."""

    name: str
    default: str
    meaning: str
    parse: Callable[[str], Any]


def _flag(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False,
             "": False}
    if text.lower() not in known:
        raise ValueError("use 1 or 0")
    return known[text.lower()]


def _number(kind: Callable[[str], float], text: str) -> float:
    """Return what a text says; NaN, which is in no range, for one that says no number of this kind."""
    try:
        return kind(text)
    except ValueError:
        return math.nan


def _seconds(text: str) -> float:
    seconds = _number(float, text)
    if not 0 < seconds < float("inf"):
        raise ValueError("use a number of seconds above 0")
    return seconds


def _count(text: str) -> int:
    count = _number(int, text)
    if not count >= 1:
        raise ValueError("use a whole number of at least 1")
    return int(count)


def _port(text: str) -> int | None:
    if not text:
        return None
    port = _number(int, text)
    if not 0 <= port < 65536:
        raise ValueError("use a port, 0 for any free one, or nothing")
    return int(port)


def _scope(text: str) -> str:
    scope = _EARLIER_SCOPES.get(text, text)
    if scope not in get_args(Scope):
        raise ValueError("use process or shared")
    return scope


def _modules(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if wrong := [name for name in names if not all(part.isidentifier() for part in name.split("."))]:
        raise ValueError(f"{wrong[0]!r} is not the name of a module")
    if "none" in names and len(names) > 1:
        raise ValueError("use none, or names of modules")
    return names


VARIABLES = (
    Variable("DISABLED", "0", "1 turns everything off: every task connects by itself", _flag),
    Variable("SCOPE", "process", "process: one shared driver per pool process; shared: one for the whole worker",
             _scope),
    Variable("HOSTS", "1", "driver hosts of a worker, which share its slots; use more than one only if one is "
             "busy all the time", _count),
    Variable("CONNECTION_IDS", "*", "Airflow connections of type neo4j that go through a shared driver: ids and "
             "patterns, separated by commas; a leading ! excludes", ConnectionIds.parse),
    Variable("MAX_UPSTREAMS", "32", "the most upstreams that the driver host serves; tasks connect to any other by "
             "themselves", _count),
    Variable("MAX_SIZE", "100", "the most connections of one driver", _count),
    Variable("ACQUISITION_TIMEOUT", "60", "how long a transaction waits for a connection before it fails", _seconds),
    Variable("MAX_LIFETIME", "2700", "age at which an upstream connection is replaced", _seconds),
    Variable("IDLE_TIMEOUT", "300", "how long an unused connection is kept", _seconds),
    Variable("LIVENESS_CHECK", "60", "time without an answer after which an idle connection is checked", _seconds),
    Variable("CONNECTION_TIMEOUT", "15", "how long opening a connection to Neo4j may take, from its name to the logon",
             _seconds),
    Variable("LOGON_TIMEOUT", "15", "how long a client may take to log on", _seconds),
    Variable("DRAIN_TIMEOUT", "30", "how long transactions may go on when the worker stops", _seconds),
    Variable("START_TIMEOUT", "10", "how long the worker waits for the driver host at its start", _seconds),
    Variable("PRELOAD", "", "modules that the worker imports before its pool forks, beside those that Airflow's tasks "
             "need, separated by commas; none: import nothing", _modules),
    Variable("METRICS_PORT", "", "port on which the driver host serves its metrics for Prometheus, 0: any free one; "
             "empty: none", _port),
    Variable("METRICS_HOST", "127.0.0.1", "address on which it serves them; 0.0.0.0: all addresses of the machine",
             lambda text: text or "127.0.0.1"),
    Variable("RUNTIME_DIR", "", "where the folder with the control socket is made; empty: XDG_RUNTIME_DIR, else the "
             "temporary folder", lambda text: Path(text) if text else None),
)


@dataclass(frozen=True)
class Settings:
    """The values of ``VARIABLES``."""

    disabled: bool
    scope: Scope
    hosts: int
    connection_ids: ConnectionIds
    max_upstreams: int
    max_size: int
    acquisition_timeout: float
    max_lifetime: float
    idle_timeout: float
    liveness_check: float
    connection_timeout: float
    logon_timeout: float
    drain_timeout: float
    start_timeout: float
    preload: tuple[str, ...]
    metrics_port: int | None
    metrics_host: str
    runtime_dir: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read every variable. Raises BadSetting with the variable's name and the values that it accepts."""
        values = {variable.name.lower(): _value(variable, environment) for variable in VARIABLES}
        return cls(**values | {"runtime_dir": values["runtime_dir"] or default_runtime_dir(environment)})


def connection_ids(environment: Mapping[str, str]) -> ConnectionIds:
    """Return which connections go through a shared driver. Raises BadSetting if the variable cannot be read."""
    ids: ConnectionIds = _value(next(each for each in VARIABLES if each.name == "CONNECTION_IDS"), environment)
    return ids


def default_runtime_dir(environment: Mapping[str, str]) -> Path:
    """Return where runtime folders are made by default: if possible, where no other user can create names.

    Raises BadSetting if there is no temporary folder either.
    """
    own = environment.get("XDG_RUNTIME_DIR", "")
    if own and is_private(Path(own)) and os.access(own, os.W_OK):
        return Path(own)
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        raise BadSetting(f"{PREFIX}RUNTIME_DIR is not set, and there is no temporary folder that this user may write "
                         "to. Set it to a folder that this user may write to") from None


def runtime_dirs(settings: "Settings", environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Return where runtime folders may be. A service has no XDG_RUNTIME_DIR, but the user who looks for it may have."""
    if environment.get(f"{PREFIX}RUNTIME_DIR", "").strip():
        return (settings.runtime_dir,)
    return tuple(dict.fromkeys((settings.runtime_dir, default_runtime_dir({}))))


def notes_on(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return log lines about settings that are accepted under an earlier name."""
    name = f"{PREFIX}SCOPE"
    earlier = environment.get(name, "").strip()
    if earlier not in _EARLIER_SCOPES:
        return ()
    return (f"{name}={earlier} is an earlier name: use {name}={_EARLIER_SCOPES[earlier]}",)


def _value(variable: Variable, environment: Mapping[str, str]) -> Any:
    name = PREFIX + variable.name
    try:
        return variable.parse(environment.get(name, variable.default).strip())
    except ValueError as error:
        raise BadSetting(f"{name}={environment.get(name)!r} cannot be used: {error}") from error
