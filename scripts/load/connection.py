"""One HTTP/1.1 connection of a client: one request at a time, kept alive, no pipelining.

Of an answer only what a load generator needs.
"""

from __future__ import annotations

import asyncio
import re
from typing import Protocol, cast

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *(\d+)\r\n")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked\r\n")
#: Not by one pattern that ignores case: that takes as long as all the rest.
_CLOSE = (b"\r\nConnection: close\r\n", b"\r\nconnection: close\r\n", b"\r\nConnection: Close\r\n")
_BODILESS = (b"204", b"304")


class Answer:
    """``head`` ends with its last line's CRLF; ``goes_on``: the connection may be used again."""

    __slots__ = ("body", "goes_on", "head", "status")

    def __init__(self, status: int, head: bytes, body: bytes, *, goes_on: bool) -> None:
        self.status = status
        self.head = head
        self.body = body
        self.goes_on = goes_on


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
        head = data[: end + 2]
        length = _LENGTH.search(head)
        if length is not None:
            total = end + 4 + int(length[1])
        elif head[9:12] in _BODILESS:
            total = end + 4
        elif _CHUNKED.search(head):
            total = _end_of_chunks(data, end + 4)
        else:
            total = -1  # it ends with the connection
        if not self._asked or (0 <= total < len(data)) or not head.startswith(b"HTTP/1."):
            self.give_up("unreadable")
        elif total < 0 or len(data) < total:
            self._received = data
        else:
            self._tell(
                head, data[end + 4 : total], goes_on=not any(line in head for line in _CLOSE)
            )

    def connection_lost(self, _error: Exception | None) -> None:
        if self._over:
            return
        self._over = True
        head, found, body = self._received.partition(b"\r\n\r\n")
        head += b"\r\n"
        ended = found and not (_LENGTH.search(head) or _CHUNKED.search(head))
        if self._asked and ended and self._why == "reset":
            self._tell(head, body, goes_on=False)
        else:
            self._owner.lost(self, self._why if self._asked else None)

    def _tell(self, head: bytes, body: bytes, *, goes_on: bool) -> None:
        self._received, self._asked = b"", False
        self._owner.answered(self, Answer(int(head[9:12]), head, body, goes_on=goes_on))


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
