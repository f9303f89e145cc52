"""Which of Airflow's connections go through shared drivers: names, patterns and exclusions."""

from fnmatch import fnmatchcase
from typing import NamedTuple

# The id that the provider's hook uses if it is given none.
DEFAULT_ID = "neo4j_default"
_EXCLUSION = "!"
_WILDCARDS = frozenset("*?[")


class ConnectionIds(NamedTuple):
    """Names and patterns, in lower case: Airflow's environment variables do not preserve the case of an id."""

    wanted: tuple[str, ...]
    excluded: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "ConnectionIds":
        """Read a list separated by commas. Exclusions alone mean everything else; an empty list means nothing."""
        items = tuple(dict.fromkeys(item.strip().lower() for item in text.split(",") if item.strip()))
        excluded = tuple(item[1:].strip() for item in items if item.startswith(_EXCLUSION))
        wanted = tuple(item for item in items if not item.startswith(_EXCLUSION))
        if not all(excluded):
            raise ValueError("write a connection id or a pattern after each !")
        return cls(wanted or ("*",) * bool(excluded), excluded)

    def __repr__(self) -> str:
        return ",".join((*self.wanted, *(f"{_EXCLUSION}{item}" for item in self.excluded)))

    def admits(self, connection_id: str) -> bool:
        """Whether this connection goes through a shared driver. An exclusion wins over everything else."""
        return _matches(connection_id, self.wanted) and not _matches(connection_id, self.excluded)

    def names(self, connection_id: str) -> bool:
        """Whether this connection is listed by its own name, and not only matched by a pattern."""
        return connection_id.lower() in self.wanted and self.admits(connection_id)

    @property
    def of_environment(self) -> tuple[str, ...]:
        """The ids to look for in the worker's environment: those listed by name, and the hook's default."""
        listed = [item for item in self.wanted if not _WILDCARDS.intersection(item)]
        return tuple(item for item in dict.fromkeys((*listed, DEFAULT_ID)) if self.admits(item))


def _matches(connection_id: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(connection_id.lower(), pattern) for pattern in patterns)
