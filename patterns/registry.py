"""The patterns by name. To add one, write a module with a DatabaseConnection in it, and add a line here.

These are only names; a pattern is imported when a task asks for it. DAG files read the names each time they are parsed,
every 30 seconds, and importing a pattern also imports the driver.
"""

from pkgutil import resolve_name
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from patterns.connection import DatabaseConnection

PATTERNS = {
    "problematic": "patterns.problematic:ProblematicDatabaseConnection",
    "improved": "patterns.improved:ImprovedDatabaseConnection",
    "hook": "patterns.hook:HookDatabaseConnection",
    "worker": "patterns.worker:WorkerDatabaseConnection",
    "inherited": "patterns.inherited:InheritedDatabaseConnection",
}


class UnknownPatternError(ValueError):
    """No pattern has this name."""


def load(name: str) -> type["DatabaseConnection"]:
    """Import the pattern of this name, and with it the driver. Raises UnknownPatternError if there is none."""
    if name not in PATTERNS:
        raise UnknownPatternError(f"no pattern is called {name!r}: expected one of {', '.join(PATTERNS)} — "
                                  "check the spelling, or add it to patterns/registry.py")
    pattern: type[DatabaseConnection] = resolve_name(PATTERNS[name])
    return pattern
