"""What an operator can ask a driver host for: PgBouncer's RECONNECT, PAUSE and RESUME, for Neo4j.

A command is a line of JSON on the control socket. The host answers with its status.
"""

import json
from enum import Enum
from typing import Any


class Command(Enum):
    """A command that an operator gives."""

    RECONNECT = "reconnect"
    PAUSE = "pause"
    RESUME = "resume"

    def line(self) -> bytes:
        """Return the command as it is sent."""
        return json.dumps({"command": self.value}).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Command | None":
        """Read a command; return None if the line is something else."""
        try:
            return cls(json.loads(line)["command"])
        except (ValueError, TypeError, KeyError):
            return None


def transactions(status: dict[str, Any]) -> int:
    """Return how many transactions are running in a host, from its status."""
    return sum(driver["connections"]["in_use"] for driver in status.get("drivers", []))


def outcome(command: Command, status: dict[str, Any]) -> str:
    """Return the result of a command, in one line."""
    running = transactions(status)
    left = f"{running} {'transaction runs' if running == 1 else 'transactions run'}"
    if command is Command.RECONNECT:
        closing = "closes its connection at its end" if running == 1 else "close their connections at their ends"
        return "idle connections are closed" + (f"; {left}, and {closing}" if running else "")
    if command is Command.PAUSE:
        return "paused" + (f"; {left} still" if running else ", no transaction runs")
    return "resumed"
