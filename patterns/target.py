"""The server that a driver connects to, read once from the environment."""

import re
from collections.abc import Mapping
from typing import NamedTuple, Self

ROOT = "root"
ALIAS = r"[A-Za-z][A-Za-z0-9_]*"


class SettingError(ValueError):
    """The environment does not say which server to connect to, or an alias is not valid."""


class Target(NamedTuple):
    """A server, and the user that logs on there. If ``database`` is None, it is the user's home database.

    No text made from it contains the password.
    """

    uri: str
    username: str
    password: str
    database: str | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str], alias: str = ROOT) -> Self:
        """Return the alias's target.

        Each of ``NEO4J_<ALIAS>_URI``, ``_USERNAME``, ``_PASSWORD`` and ``_DATABASE`` falls back separately to
        ``NEO4J_URI`` and so on; an empty variable counts as not set. The defaults are the user ``neo4j`` and the user's
        home database.

        Raises SettingError if the URI or the password is missing, or if the alias is not a name.
        """
        if not re.fullmatch(ALIAS, alias):
            raise SettingError(f"alias {alias!r} is not a name: expected letters, digits and underscores, "
                               "a letter first — choose another alias")
        return cls(_require(environ, alias, "URI", "the server's address, such as neo4j://localhost:7687"),
                   _find(environ, alias, "USERNAME") or "neo4j",
                   _require(environ, alias, "PASSWORD", "the password of the user"),
                   _find(environ, alias, "DATABASE"))

    @property
    def auth(self) -> tuple[str, str]:
        """User name and password, as the driver takes them."""
        return self.username, self.password

    def __repr__(self) -> str:
        return f"Target({self.uri!r}, {self.username!r}, password=***, database={self.database!r})"


def _names(alias: str, setting: str) -> tuple[str, str]:
    return f"NEO4J_{alias.upper()}_{setting}", f"NEO4J_{setting}"


def _find(environ: Mapping[str, str], alias: str, setting: str) -> str | None:
    return next((environ[name] for name in _names(alias, setting) if environ.get(name)), None)


def _require(environ: Mapping[str, str], alias: str, setting: str, expected: str) -> str:
    value = _find(environ, alias, setting)
    if value is None:
        own, common = _names(alias, setting)
        raise SettingError(f"{common} is not set: expected {expected} — set it (or {own}, for the alias "
                           f"{alias!r} alone) in the environment of what runs the tasks: the Celery worker, "
                           "or with LocalExecutor the scheduler")
    return value
