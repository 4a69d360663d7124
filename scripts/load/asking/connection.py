"""One HTTP/1.1 connection of a client: one request at a time, kept alive, no pipelining.

Of an answer only what a load generator needs.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol, cast

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)\r\n")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked\r\n")
_CLOSE = re.compile(rb"(?i)\r\nconnection: *close\r\n")
_BODILESS = (b"204", b"304")


class Answer:
    """``goes_on``: the connection may be used again."""

    __slots__ = ("_data", "_end", "goes_on", "status")

    def __init__(self, data: bytes, end: int, *, goes_on: bool) -> None:
        self._data = data
        self._end = end
        self.status = int(data[9:12])
        self.goes_on = goes_on

    @property
    def head(self) -> bytes:
        """With its last line's CRLF."""
        return self._data[: self._end + 2]

    @property
    def body(self) -> bytes:
        return self._data[self._end + 4 :]


class Owner(Protocol):
    """Who asks; it is told of every request exactly one of the two."""

    def answered(self, connection: Connection, answer: Answer) -> None: ...

    def lost(self, connection: Connection, why: str | None) -> None:
        """``why`` is None where nothing was asked: the service closed an idle connection."""


class Connection(asyncio.Protocol):
    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._received = b""
        self._asked = False
        self._over = False
        self._why = "reset"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not by isinstance: uvloop's transports are no subclass.
        self._transport = cast(asyncio.Transport, transport)

    @property
    def over(self) -> bool:
        """Closed by either side; nothing can be asked any more."""
        return self._over

    def ask(self, request: bytes) -> None:
        self._asked = True
        self._transport.write(request)

    def close(self) -> None:
        """Without a word to the owner."""
        self._over = True
        self._transport.close()

    def give_up(self, why: str) -> None:
        """The owner is told of it as of a lost connection."""
        self._why = why
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._received:
            data = self._received + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._received = data
            return
        length = _LENGTH.search(data, 0, end + 2)
        total = end + 4 + int(length[1]) if length is not None else _total(data, end)
        if not self._asked or 0 <= total < len(data) or not data.startswith(b"HTTP/1."):
            self.give_up("unreadable")
        elif total < 0 or len(data) < total:
            self._received = data
        else:
            # The pattern alone, which ignores case, would take as long as all the rest.
            closes = data.find(b"lose\r\n", 0, end + 2) >= 0
            goes_on = not (closes and _CLOSE.search(data, 0, end + 2))
            self._tell(Answer(data, end, goes_on=goes_on))

    def connection_lost(self, _error: Exception | None) -> None:
        if self._over:
            return
        self._over = True
        data = self._received
        end = data.find(b"\r\n\r\n")
        # Without a length, the end of the connection is the end of the answer.
        ended = end >= 0 and not (_LENGTH.search(data, 0, end + 2) or _chunked(data, end))
        if self._asked and ended and self._why == "reset":
            self._tell(Answer(data, end, goes_on=False))
        else:
            self._owner.lost(self, self._why if self._asked else None)

    def _tell(self, answer: Answer) -> None:
        self._received, self._asked = b"", False
        self._owner.answered(self, answer)


def _total(data: bytes, end: int) -> int:
    """How long an answer without a length is; -1 where that is not to be seen yet."""
    if data[9:12] in _BODILESS:
        return end + 4
    return _end_of_chunks(data, end + 4) if _chunked(data, end) else -1


def _chunked(data: bytes, end: int) -> bool:
    return _CHUNKED.search(data, 0, end + 2) is not None


def _end_of_chunks(data: bytes, start: int) -> int:
    """Where the body ends; -1 while it has not. Extensions and trailers are nobody's here."""
    at = start
    while (line := data.find(b"\r\n", at)) >= 0:
        try:
            size = int(data[at:line].partition(b";")[0], 16)
        except ValueError:
            return 0  # less than there is: unreadable
        at = line + 2 + size + 2
        if size == 0:
            return at if at <= len(data) else -1
    return -1
