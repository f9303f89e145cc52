"""What all clients of a host have in messages that the relay has to read: a bound for all of them together."""


from collections.abc import Hashable
from typing import Generic, TypeVar

Owner = TypeVar("Owner", bound=Hashable)


class Spool(Generic[Owner]):
    """Bytes held, for each client. ``room`` is how many there may be before all but the oldest are held back.

    The oldest goes on in any case, up to its own bound: so one of them always ends, and then the next is the oldest.
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
        """Return how many bytes of a client are held."""
        return self._sizes.get(client, 0)

    def holds_back(self, client: Owner) -> bool:
        """Whether a client may send no more for now; it is woken when it may."""
        if self.total < self._room or next(iter(self._sizes), client) is client:
            self._held_back.discard(client)
            return False
        self._held_back.add(client)
        return True

    def remove(self, client: Owner) -> tuple[Owner, ...]:
        """Forget a client's message; return the clients that were held back and have to look again."""
        self._held_back.discard(client)
        size = self._sizes.pop(client, None)
        if size is None:
            return ()
        self.total -= size
        return tuple(self._held_back)
