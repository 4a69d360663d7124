"""Answers that are bytes already: head and body in one write.

Reason: ``web.Response`` builds a multidict of fields, fills in what is missing, and serialises all
of it for every answer. Here fixed fields are text made once, and what differs (request id, limits,
length, date) is put behind them. Measured, with the same small body: 11.4 µs of Python a request in
place of the bare handler's 16.7.

An answer that anything unusual happens to becomes an ordinary ``web.Response`` with the same
fields, by itself: who asks for its headers (a signal, a middleware), HEAD, HTTP/1.0, compression.
So only the usual case is written here, and a test compares its bytes with what ``web.Response``
sends. The plain way: setting ``server.fast_answers``.

Leans on private parts of aiohttp 3.14 (bounded in setup.cfg): the attributes ``web.Response``
keeps, ``Request._payload_writer``, ``StreamWriter._write``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE

if TYPE_CHECKING:
    from aiohttp.web_request import BaseRequest

_SERVER_LINE = f"\r\nServer: {SERVER_SOFTWARE}\r\n"
_CLOSE_LINE = "Connection: close\r\n"


def start_of(status: int, reason: str, fields: list[tuple[str, str]]) -> str:
    """The fixed first lines of a head: made once, used for many answers."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"HTTP/1.1 {status} {reason}\r\n{lines}"


class Rendered(web.Response):
    """``start`` as ``start_of`` makes it; ``tell`` adds lines; length and date are its own.

    The body is empty exactly where the status has none (304).
    """

    #: Asked of every answer by aiohttp; found here before ``__getattr__`` is.
    __http_exception__ = False
    #: All that ``web.Response.__init__`` sets is there.
    _is_ordinary = False

    def __init__(self, status: int, start: str, body: bytes) -> None:
        # Not web.Response's own: it would make all that is to be saved. ``__getattr__`` calls it.
        self._status = status
        self._start_lines = start
        self._body: bytes = body

    def tell(self, lines: str) -> None:
        """More fields, each line with its CRLF; values must be free of control characters."""
        if self._is_ordinary:
            self._headers.extend(_fields(lines))
        else:
            self._start_lines += lines

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        if (
            self._is_ordinary
            or request.version != HttpVersion11
            or request.method == hdrs.METH_HEAD
            or self._compression
            or self._cookies is not None
            or self.prepared
        ):
            return await super().prepare(request)
        # What ``Request._prepare_hook`` does, without two of its three coroutines.
        for app in request.match_info.apps:  # type: ignore[attr-defined]
            for receiver in app.on_response_prepare:
                await receiver(request, self)
        if self._is_ordinary:  # a signal has looked at the fields, and may have changed them
            return await self._prepare_ordinary(request)  # type: ignore[unreachable]
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        self._req = request
        writer = self._payload_writer = request._payload_writer
        return writer

    async def write_eof(self, data: bytes = b"") -> None:
        writer = self._payload_writer
        if writer is None or self._is_ordinary:
            await super().write_eof(data)
            return
        self._eof_sent = True
        self._req = self._payload_writer = None
        writer._write(self.whole())  # type: ignore[attr-defined]
        writer._eof = True  # type: ignore[attr-defined]
        self._body_length = writer.output_size
        if writer._protocol._paused:  # type: ignore[attr-defined]
            await writer.drain()

    def whole(self, lines: str = "") -> bytes:
        """Head and body as they are sent, with these ``lines`` too; nothing may have looked at it.

        Kept alive, unless it was prepared for a request that is not.
        """
        body = self._body
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = (
            f"{self._start_lines}{lines}{length}Date: {rfc822_formatted_time()}{_SERVER_LINE}"
            f"{_CLOSE_LINE if self._keep_alive is False else ''}\r\n"
        )
        return head.encode() + body

    async def _prepare_ordinary(self, request: BaseRequest) -> AbstractStreamWriter:
        """What is left of ``web.Response.prepare`` after the signals."""
        self._must_be_empty_body = not self._body
        self._req = request
        writer = self._payload_writer = request._payload_writer
        if self._body:
            self._headers[hdrs.CONTENT_LENGTH] = str(len(self._body))
        await self._prepare_headers()
        await self._write_headers()
        return writer

    def _set_status(self, status: int, reason: str | None) -> None:
        self.headers  # noqa: B018  (asked for, the answer becomes an ordinary one)
        super()._set_status(status, reason)

    def __getattr__(self, name: str) -> Any:
        """Called for what ``web.Response.__init__`` would have set: time to become ordinary."""
        if name.startswith("__") or self._is_ordinary:
            raise AttributeError(name)
        self._is_ordinary = True
        status_line, _, lines = self._start_lines.partition("\r\n")
        reason = status_line.split(" ", 2)[2]
        super().__init__(
            status=self._status, reason=reason, body=self._body, headers=_fields(lines)
        )
        return getattr(self, name)


def _fields(lines: str) -> list[tuple[str, str]]:
    pairs = (line.partition(": ") for line in lines.split("\r\n") if line)
    return [(name, value) for name, _, value in pairs]
