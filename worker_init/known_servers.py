"""What the members of an upstream have said of themselves, and what clients are told of it.

Usually all say the same. While a cluster is upgraded one member at a time, they do not: a client is offered what the
oldest of them speaks, so that each member can serve it.
"""

from typing import Any, NamedTuple

from worker_init.handshake import Version

# How long what an older member has said counts. It may have been upgraded since, which shows only in a connection that
# may speak the newest version: so while members differ, one client in so many seconds is turned away, and tries again.
_SECONDS = 60.0


class Server(NamedTuple):
    """What a server said of itself when a connection was opened."""

    version: Version
    agent: str
    hints: dict[str, Any]
    # What was agreed to be added to Bolt 4.4.
    patches: frozenset[str] = frozenset()


class KnownServers:
    """The members by their address."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Server]] = {}
        # The newest version that a member speaks; None: none is known.
        self.newest: Version | None = None

    def learn(self, address: str, server: Server, now: float) -> None:
        """Note what a member says over a connection that may speak the newest version."""
        self._known[address] = now, server
        self.newest = max(server.version for _, server in self._known.values())

    def oldest(self, now: float) -> Server | None:
        """Return the member of the oldest version that counts yet; None: none is known."""
        if not self._known:
            return None
        self._known = {address: (learned_at, server) for address, (learned_at, server) in self._known.items()
                       if server.version == self.newest or now < learned_at + _SECONDS}
        return min((server for _, server in self._known.values()), key=lambda server: server.version)
