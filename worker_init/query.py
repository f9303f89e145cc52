"""Reads a RUN or BEGIN as it arrives: finds its extras, the fields in them that decide its route, and changes them.

The parameters, which may be millions of values, are followed piece by piece and never created. Each step looks at so
little that others can be served in between. What has arrived is held unchanged. A message that cannot be read goes on
unchanged: the server has its own answer to it.
"""

from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

from worker_init.bolt import Tag, Unchunker
from worker_init.bounds import LARGEST_READ, MOST_VALUES, READ_AT_ONCE
from worker_init.errors import ProtocolViolation
from worker_init.packstream import Skipper, unpack, with_entries
from worker_init.routing import Route

# The structure's marker and the tag. RUN has the query and its parameters before the extras.
_HEAD = 2
_BEFORE_EXTRAS = {int(Tag.RUN): 2, int(Tag.BEGIN): 0}
_ROUTE_KEYS = frozenset(("mode", "db", "bookmarks", "imp_user"))
_LONGEST_READ = 64 * 1024
_LARGEST_CHUNK = 0xFFFF
_END = b"\x00\x00"


class QueryReader:
    """One RUN or BEGIN. ``tag`` says which; ``size`` is how much of it is held, in bytes."""

    def __init__(self, tag: int, filters: dict[str, Any]) -> None:
        self.tag = tag
        self.size = 0
        self._filters = filters
        self._unchunker = Unchunker()
        self._parts: list[bytes] = []
        self._is_whole = self._is_read = False
        self._at = (0, _HEAD)
        self._steps = self._read()
        self._found: dict[str, Any] = {}

    def feed(self, raw: bytes, *, last: bool) -> None:
        """Take a piece of the message. Raises ProtocolViolation if the message is too large."""
        for start, stop in self._unchunker.feed(raw):
            if self.size < _HEAD and self._parts:
                self._parts[-1] += raw[start:stop]
            else:
                self._parts.append(raw[start:stop])
            self.size += stop - start
        self._is_whole = last
        if self.size > LARGEST_READ:
            raise ProtocolViolation(f"a query of more than {LARGEST_READ} bytes that the relay has to read")

    def go_on(self) -> bool:
        """Read a little further; return whether more of what has arrived is left to read."""
        return not self._is_read and next(self._steps)

    @property
    def is_read(self) -> bool:
        """Whether the whole message has arrived and has been read."""
        return self._is_read

    @property
    def route(self) -> Route:
        """The route that the message asks for; known once it has been read."""
        bookmarks = self._found.get("bookmarks")
        return Route(self._found.get("mode") == "r", self._found.get("db"),
                     tuple(bookmarks) if isinstance(bookmarks, list) else (), self._found.get("imp_user"))

    def take_parts(self) -> "deque[bytes | memoryview]":
        """Return the message for the wire, in chunks, with the client's own filters in its extras.

        Nothing is copied, because the message may have 256 MB, and others wait.
        """
        parts, self._parts = self._parts, []
        return deque((*_chunks(parts), _END))

    def _read(self) -> Iterator[bool]:
        """Read step by step; yield whether the next step already has something to look at."""
        try:
            yield from self._read_to_extras()
            while not self._is_whole:
                yield False
            yield from self._read_extras(*self._at)
        except ProtocolViolation:
            self._found = {}
            while not self._is_whole:
                yield False
        self._is_read = True
        yield False

    def _read_to_extras(self) -> Iterator[bool]:
        """Skip the query and its parameters. Then ``_at`` says where the extras begin: part and offset."""
        index, offset, looked_at = 0, _HEAD, 0
        skipper = Skipper(_BEFORE_EXTRAS[self.tag])
        while not skipper.done:
            while index == len(self._parts) or self.size < _HEAD:
                if self._is_whole:
                    raise ProtocolViolation("the message ends within a value")
                yield False
            part = self._parts[index]
            at = skipper.feed(part, offset, budget=MOST_VALUES)
            looked_at += at - offset
            offset = at
            if not skipper.done and at == len(part):
                index, offset = index + 1, 0
            if not skipper.done and (offset or looked_at > READ_AT_ONCE):
                looked_at = 0
                yield True
        self._at = (index, offset)

    def _read_extras(self, index: int, offset: int) -> Generator[bool, None, None]:
        """Read the map at the end, one entry after the other, and add the client's filters."""
        part = b"".join(self._parts[index:index + 1])
        before, data = part[:offset], b"".join((part[offset:], *self._parts[index + 1:]))
        keys = set()
        count, at = _map_head(data)
        for _ in range(count):
            key, start = unpack(data, at)
            at = yield from self._pass_over(data, start)
            if not isinstance(key, str):
                continue
            keys.add(key)
            # Longer ones than any server gives are not worth the time; the query itself still has them.
            if key in _ROUTE_KEYS and at - start <= _LONGEST_READ:
                self._found[key], _ = unpack(data, start)
        if missing := {key: value for key, value in self._filters.items() if key not in keys}:
            self._parts[index:] = [before, with_entries(data[:at], missing) + data[at:]]

    @staticmethod
    def _pass_over(data: bytes, at: int) -> Generator[bool, None, int]:
        skipper = Skipper()
        while not skipper.done:
            at = skipper.feed(data, at, budget=MOST_VALUES)
            if not skipper.done:
                if at == len(data):
                    raise ProtocolViolation("the message ends within a value")
                yield True
        return at


def _map_head(data: bytes) -> tuple[int, int]:
    """Return how many entries a map has, and where they begin."""
    marker = data[0] if data else 0
    if marker & 0xF0 == 0xA0:
        return marker & 0x0F, 1
    if not 0xD8 <= marker <= 0xDA:
        raise ProtocolViolation("the extras are no map")
    end = 1 + (1 << (marker - 0xD8))
    return int.from_bytes(data[1:end], "big"), end


def _chunks(parts: list[bytes]) -> Iterator[bytes | memoryview]:
    for part in parts:
        for at in range(0, len(part), _LARGEST_CHUNK):
            piece = part if len(part) <= _LARGEST_CHUNK else memoryview(part)[at:at + _LARGEST_CHUNK]
            yield len(piece).to_bytes(2, "big")
            yield piece
