"""How much the clients of a host hold in messages that the relay must read, with one bound for all of them together."""


from collections.abc import Hashable
from typing import Generic, TypeVar

Owner = TypeVar("Owner", bound=Hashable)


class Spool(Generic[Owner]):
    """Bytes held, for each client. Above ``room`` bytes, all clients but the oldest are held back.

    The oldest always continues, up to its own bound. So one of them always finishes, and then the next one is the
    oldest.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._sizes: dict[Owner, int] = {}
        self._held_back: set[Owner] = set()
        self.total = 0

    def add(self, client: Owner, size: int) -> None:
        """Count bytes of a client's message."""
        self._sizes[client] = self._sizes.get(client, 0) + size
        self.total += size

    def size_of(self, client: Owner) -> int:
        """Return how many bytes are held for a client."""
        return self._sizes.get(client, 0)

    def holds_back(self, client: Owner) -> bool:
        """Whether a client must stop sending for now. It is woken when it may continue."""
        if self.total < self._room or next(iter(self._sizes), client) is client:
            self._held_back.discard(client)
            return False
        self._held_back.add(client)
        return True

    def remove(self, client: Owner) -> tuple[Owner, ...]:
        """Forget a client's message; return the clients that were held back and must check again."""
        self._held_back.discard(client)
        size = self._sizes.pop(client, None)
        if size is None:
            return ()
        self.total -= size
        return tuple(self._held_back)
