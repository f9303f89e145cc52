"""The state of the server within a lease, derived from the tags of requests and answers alone.

The server answers in order, so each answer belongs to the oldest open request. ``SERVER_TABLE`` gives the state that
follows from each state and answer. A pair that is not in the table is a fault of the server, which ends this one lease.
The lease can end when no answer is outstanding and the server is READY again.
"""

from collections import deque
from enum import IntEnum, auto

from worker_init.bolt import Tag, body_of
from worker_init.errors import ServerFault
from worker_init.packstream import unpack_map


class ServerState(IntEnum):
    """The server's state, as far as a lease depends on it."""

    READY = auto()
    STREAMING = auto()
    TRANSACTION = auto()
    FAILED = auto()


class Answer(IntEnum):
    """What an answer means for its request. MORE is the success of a PULL or DISCARD that leaves rows."""

    DONE = auto()
    MORE = auto()
    FAILED = auto()
    IGNORED = auto()


_READY, _STREAMING, _TRANSACTION, _FAILED = ServerState
_ROWS = (Tag.PULL, Tag.DISCARD)
_HAVE_ROWS = frozenset(map(int, _ROWS))
# What a lease may ask for besides queries. The success of these changes nothing.
_ASIDE = (Tag.TELEMETRY, Tag.ROUTE)


def _server_table() -> dict[tuple[ServerState, Tag, Answer], ServerState]:
    table = {
        (_READY, Tag.RUN, Answer.DONE): _STREAMING,
        (_READY, Tag.BEGIN, Answer.DONE): _TRANSACTION,
        (_TRANSACTION, Tag.RUN, Answer.DONE): _TRANSACTION,
        (_TRANSACTION, Tag.COMMIT, Answer.DONE): _READY,
        (_TRANSACTION, Tag.ROLLBACK, Answer.DONE): _READY,
    }
    for rows in _ROWS:
        table |= {
            (_STREAMING, rows, Answer.MORE): _STREAMING,
            (_STREAMING, rows, Answer.DONE): _READY,
            (_TRANSACTION, rows, Answer.MORE): _TRANSACTION,
            (_TRANSACTION, rows, Answer.DONE): _TRANSACTION,
        }
    for state in ServerState:
        table[state, Tag.RESET, Answer.DONE] = _READY
        table |= {(state, aside, Answer.DONE): state for aside in _ASIDE}
        for request in (Tag.RUN, Tag.BEGIN, Tag.COMMIT, Tag.ROLLBACK, Tag.RESET, *_ROWS, *_ASIDE):
            table[state, request, Answer.FAILED] = _FAILED
            # After a RESET, the server ignores the requests before it, in every state.
            table[state, request, Answer.IGNORED] = state
    return table


SERVER_TABLE = _server_table()
# The key of an answer: its tag, or, for a success with rows left, a number that is not a tag.
_ROWS_LEFT = 0xFF
_KNOWN_BY = {Answer.DONE: int(Tag.SUCCESS), Answer.MORE: _ROWS_LEFT, Answer.FAILED: int(Tag.FAILURE),
             Answer.IGNORED: int(Tag.IGNORED)}


def key_of(state: ServerState, request: Tag, answer: Answer) -> int:
    """Return a row's number in the compiled table. Looking up a small number is faster than creating a tuple first."""
    return state << 16 | request << 8 | _KNOWN_BY[answer]


_COMPILED: dict[int, ServerState] = {key_of(*row): after for row, after in SERVER_TABLE.items()}


class ServerMachine:
    """One lease's requests and their answers. ``pending`` has the tags of the requests without an answer."""

    __slots__ = ("pending", "state")

    def __init__(self) -> None:
        self.pending: deque[int] = deque()
        self.state = ServerState.READY

    @property
    def is_over(self) -> bool:
        """Whether the upstream connection is in the state in which it was lent."""
        return not self.pending and self.state is _READY

    def request(self, tag: int) -> None:
        """Note a request that goes to the server."""
        self.pending.append(tag)

    def answer(self, tag: int, raw: bytes) -> int:
        """Note an answer that ends a request, as it came; return the tag of that request.

        Raises ServerFault if there was no such request, or if the state does not allow this answer.
        """
        if not self.pending:
            raise ServerFault(f"the server answered {tag:#x} to nothing")
        request = self.pending.popleft()
        # Only an answer that contains the key is worth decoding.
        kind = _ROWS_LEFT if request in _HAVE_ROWS and b"has_more" in raw and _has_more(tag, raw) else tag
        after = _COMPILED.get(self.state << 16 | request << 8 | kind)
        if after is None:
            raise ServerFault(f"the server answered {tag:#x} to {request:#x} in the state {self.state.name}")
        self.state = after
        return request


def _has_more(tag: int, raw: bytes) -> bool:
    """Whether more rows of a result follow."""
    return tag == Tag.SUCCESS and bool(unpack_map(body_of(raw), 2)[0].get("has_more", False))
