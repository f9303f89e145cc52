"""What a client has sent: scanned when it arrives, and kept until its turn has come.

Everything here is bounded (:mod:`worker_init.bounds`). If something is too large or is not Bolt, ProtocolViolation is
raised when it arrives, however much else is waiting in front of it.
"""

from collections import deque

from worker_init.bolt import NoMessage, Piece, Scanner, Tag, body_of
from worker_init.bounds import LARGEST_ANSWERED, MOST_AHEAD, READ_AHEAD, SLICE
from worker_init.client_table import Event
from worker_init.errors import ProtocolViolation

_EVENTS = {
    int(Tag.HELLO): Event.HELLO, int(Tag.LOGON): Event.LOGON, int(Tag.LOGOFF): Event.LOGOFF,
    int(Tag.GOODBYE): Event.GOODBYE, int(Tag.RESET): Event.RESET, int(Tag.TELEMETRY): Event.TELEMETRY,
    int(Tag.ROUTE): Event.ROUTE, int(Tag.RUN): Event.QUERY, int(Tag.BEGIN): Event.QUERY, int(Tag.PULL): Event.MORE,
    int(Tag.DISCARD): Event.MORE, int(Tag.COMMIT): Event.MORE, int(Tag.ROLLBACK): Event.MORE}
# These are handed on piece by piece. All others are small, and are handled once they are complete.
_IN_PIECES = frozenset((Event.QUERY, Event.MORE))


# The messages that the relay answers itself, byte for byte. Any other form is wrong, and the server answers that.
_EXACT = {Event.RESET: frozenset((b"\xb0\x0f",)),
          Event.TELEMETRY: frozenset(b"\xb1\x54" + bytes((kind,)) for kind in range(4))}


def _event_of(event: Event, raw: bytes) -> Event:
    """Return the event of a complete message. A RESET with a field, for example, is left for the server to answer."""
    return event if event not in _EXACT or body_of(raw) in _EXACT[event] else Event.MORE


# A message, or a piece of one, that waits for its turn: its event, its tag, its bytes, and whether these are the first
# and the last of the message. It is a plain tuple because there is one for everything that a client sends.
Item = tuple[Event, int, bytes, bool, bool]
NOTHING: Item = (Event.VIOLATION, 0, b"", True, True)


class Inbox:
    """``queue`` holds what waits for its turn; ``unscanned`` holds what has not been scanned yet, in slices."""

    __slots__ = ("_event", "_gathered", "_queued", "_scanner", "ahead", "between_messages", "queue", "unscanned")

    def __init__(self) -> None:
        self.queue: deque[Item] = deque()
        self.unscanned: deque[bytes] = deque()
        # Whether everything scanned so far ends at the end of a message.
        self.between_messages = True
        # Bytes that came while others waited, including NOOPs.
        self.ahead = 0
        self._scanner = Scanner()
        self._event = Event.VIOLATION
        self._gathered = bytearray()
        self._queued = 0

    @property
    def held(self) -> int:
        """Return how many bytes are held."""
        return self._queued + len(self._gathered) + sum(map(len, self.unscanned))

    @property
    def is_full(self) -> bool:
        """Whether a client has sent as much as it may while something waits."""
        return (self._queued > READ_AHEAD or self.ahead > READ_AHEAD or len(self.queue) > MOST_AHEAD
                or bool(self.unscanned))

    def slice(self, data: bytes) -> None:
        """Keep data that is too much to be scanned in one step."""
        self.unscanned.extend(data[at:at + SLICE] for at in range(0, len(data), SLICE))

    def scan(self, data: bytes) -> None:
        """Find the messages and check that they are valid. Gather those that are handled when complete."""
        if self.queue:
            self.ahead += len(data)
        try:
            self._queue_up(self._scanner.feed(data))
        except NoMessage as found:
            # What came before the bad message counts as if it had come in a block of its own.
            self._queue_up(found.before)
            raise
        self.between_messages = self._scanner.between_messages

    def _queue_up(self, pieces: list[Piece]) -> None:
        queue, block = self.queue, self._scanner.block
        for tag, start, stop, first, last in pieces:
            if first:
                if tag not in _EVENTS:
                    raise ProtocolViolation(f"Bolt has no message {tag:#x} of a client")
                event = self._event = _EVENTS[tag]
            else:
                event = self._event
            raw = block[start:stop]
            if event in _IN_PIECES:
                queue.append((event, tag, raw, first, last))
            elif whole := self._gather(tag, raw, last=last):
                raw = whole
                queue.append((_event_of(event, whole), tag, whole, True, True))
            else:
                continue
            self._queued += len(raw)

    def _gather(self, tag: int, raw: bytes, *, last: bool) -> bytes | None:
        """Return the message once it is complete; None before."""
        if len(self._gathered) + len(raw) > LARGEST_ANSWERED:
            raise ProtocolViolation(f"a message {tag:#x} of more than {LARGEST_ANSWERED} bytes")
        if last and not self._gathered:
            return raw
        self._gathered += raw
        if not last:
            return None
        whole = bytes(self._gathered)
        self._gathered.clear()
        return whole

    def end(self) -> None:
        """Close the queue with an item that is not a message: the client has broken the protocol."""
        self.unscanned.clear()
        self.queue.append(NOTHING)

    def take(self) -> Item:
        """Take the head of the queue out."""
        item = self.queue.popleft()
        self._queued -= len(item[2])
        if not self.queue:
            self.ahead = 0
        return item

    def clear(self) -> None:
        """Drop everything that has not had its turn."""
        self.queue.clear()
        self.unscanned.clear()
        self._gathered.clear()
        self._queued = self.ahead = 0
