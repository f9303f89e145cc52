"""What the members of an upstream have said about themselves, and what clients are told.

Usually all members say the same. While a cluster is upgraded one member at a time, they do not. Clients are then
offered what the oldest member speaks, so that each member can serve them.
"""

from typing import Any, NamedTuple

from worker_init.handshake import Version

# How long the answer of an older member counts. It may have been upgraded since, which only shows in a connection that
# may speak the newest version. So while members differ, one client in this many seconds is turned away, and tries
# again.
_SECONDS = 60.0


class Server(NamedTuple):
    """What a server said about itself when a connection was opened."""

    version: Version
    agent: str
    hints: dict[str, Any]
    # The additions to Bolt 4.4 that were agreed on.
    patches: frozenset[str] = frozenset()


class KnownServers:
    """The members by address."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, Server]] = {}
        # The newest version that a member speaks; None if no member is known.
        self.newest: Version | None = None

    def learn(self, address: str, server: Server, now: float) -> None:
        """Note what a member said over a connection that may speak the newest version."""
        self._known[address] = now, server
        self.newest = max(server.version for _, server in self._known.values())

    def oldest(self, now: float) -> Server | None:
        """Return the member with the oldest version that still counts; None if no member is known."""
        if not self._known:
            return None
        self._known = {address: (learned_at, server) for address, (learned_at, server) in self._known.items()
                       if server.version == self.newest or now < learned_at + _SECONDS}
        return min((server for _, server in self._known.values()), key=lambda server: server.version)
