"""Where a client's conversation with its upstream connection stands, from the tags alone.

The server answers in order, so each summary belongs to the oldest request without one. The lease can
end when nothing is outstanding and the server is READY again: for an auto-commit query when its last
row is out, for an explicit transaction at the summary of COMMIT or ROLLBACK, after a FAILURE at RESET.
"""

from collections import deque
from enum import Enum, auto

from worker_init.bolt import Tag
from worker_init.packstream import unpack_map


class State(Enum):
    """The server's state, as far as a lease depends on it."""

    READY = auto()
    STREAMING = auto()
    TRANSACTION = auto()
    FAILED = auto()


_ENDS = {Tag.COMMIT, Tag.ROLLBACK, Tag.RESET}


class Conversation:
    """One lease's requests and their summaries."""

    __slots__ = ("pending", "state")

    def __init__(self) -> None:
        self.pending: deque[int] = deque()
        self.state = State.READY

    @property
    def is_over(self) -> bool:
        """Whether the upstream connection is as it was when it was leased."""
        return not self.pending and self.state is State.READY

    def request(self, tag: int) -> None:
        """Note a message that goes upstream."""
        self.pending.append(tag)

    def summary(self, tag: int, body: bytes) -> int | None:
        """Note an answer that ends a request, and return that request's tag; None: there was none."""
        if not self.pending:
            return None
        request = self.pending.popleft()
        if tag == Tag.FAILURE:
            self.state = State.FAILED
        elif tag == Tag.SUCCESS:
            self._succeeded(request, body)
        return request

    def _succeeded(self, request: int, body: bytes) -> None:
        if request == Tag.RUN and self.state is State.READY:
            self.state = State.STREAMING
        elif request == Tag.BEGIN:
            self.state = State.TRANSACTION
        elif request in _ENDS or (self.state is State.STREAMING and _is_last(request, body)):
            self.state = State.READY


def _is_last(request: int, body: bytes) -> bool:
    """Whether a SUCCESS ends a result. Only a body with the key in it is worth decoding."""
    if request not in (Tag.PULL, Tag.DISCARD):
        return False
    return b"has_more" not in body or not unpack_map(body, 2)[0].get("has_more", False)
