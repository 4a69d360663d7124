"""Who was refused a moment ago is refused again at the door, before a request is made of it.

Reason: most of what a denial costs is aiohttp's own: a request, a task, two turns of the loop.
Measured in Python alone: 29 µs a denial in the ordinary way, 15 here, 21 the bare handler. A flood
comes over few connections and asks for the same address again and again. So a connection whose
request was refused from knowledge gets a doorman: he looks at what the parser finds, and what would
be refused again he answers. All else, whatever is unusual, he hands on and leaves: the ordinary way
decides, and calls him again when it refuses again. Who keeps within his limits never meets him, and
what he says and counts is what the ordinary way does, by the same functions.
The plain way: ``server.fast_answers``.

Leans on private parts of aiohttp 3.14 (bounded in setup.cfg): a ``RequestHandler``'s ``_parser``,
``_messages``, ``_request_in_progress``, ``_paused`` and its keep-alive times.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast

from aiohttp import HttpVersion11, hdrs, web
from aiohttp.http import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD

#: Given what the parser found and further lines for the head: the whole answer, or None where this
#: is not to be refused from here.
Refuse = Callable[[RawRequestMessage, str], bytes | None]
#: What a parser gives while no request is complete.
_NOTHING: tuple[tuple[()], bool, bytes] = ((), False, b"")


class Receiver(Protocol):
    """One of ``on_response_prepare`` that can say beforehand what it will do to a refusal.

    Where there is any other, which wants to see each answer, no doorman is called.
    """

    async def __call__(self, request: web.Request, answer: web.StreamResponse) -> None: ...

    def lines_for(self, headers: Mapping[str, str]) -> str | None:
        """What it adds to the head, whole lines, after a request with these fields; None: more."""


class Doorman:
    """Stands in the place of one connection's parser until he hands something on."""

    __slots__ = ("_method", "_parser", "_path", "_protocol", "_receivers", "_refuse")

    def __init__(
        self, request: web.Request, receivers: tuple[Receiver, ...], refuse: Refuse
    ) -> None:
        self._protocol = request.protocol
        self._parser: Any = request.protocol._parser
        self._method = request.method
        self._path = _address(request.raw_path)
        self._receivers = receivers
        self._refuse = refuse

    @classmethod
    def call(cls, request: web.Request, refuse: Refuse) -> None:
        """What comes next on this connection, if it is like ``request``, meets ``refuse`` first.

        To be called while ``request`` is being refused.
        """
        protocol = request.protocol
        parser: object = protocol._parser
        if (
            isinstance(parser, cls)
            or protocol._messages  # sent ahead: they are the ordinary way's already
            or request.method == hdrs.METH_HEAD  # its answer has no body
            or not request.keep_alive
        ):
            return
        apps = request.match_info.apps
        receivers = tuple(receiver for app in apps for receiver in app.on_response_prepare)
        if all(hasattr(receiver, "lines_for") for receiver in receivers):
            known = cast("tuple[Receiver, ...]", receivers)
            protocol._parser = cls(request, known, refuse)  # type: ignore[assignment]

    def feed_data(self, data: bytes) -> Any:
        found = self._parser.feed_data(data)
        messages, upgraded, _ = found
        if not messages:
            return found
        if len(messages) == 1 and not upgraded:
            message, payload = messages[0]
            if payload is EMPTY_PAYLOAD and self._is_ours(message):
                answer = self._answer_to(message)
                if answer is not None:
                    self._send(answer)
                    return _NOTHING
        # Gone with the first request handed on: so none can ever be waiting when he answers.
        self._protocol._parser = self._parser
        return found

    def _is_ours(self, message: RawRequestMessage) -> bool:
        """The same again, in the usual form, and all before it is answered."""
        protocol = self._protocol
        return (
            not protocol._request_in_progress
            and not protocol._paused
            and message.method == self._method
            and _address(message.path) == self._path
            and not message.should_close
            and message.version == HttpVersion11
            and hdrs.EXPECT not in message.headers
        )

    def _answer_to(self, message: RawRequestMessage) -> bytes | None:
        lines = ""
        try:
            for receiver in self._receivers:
                more = receiver.lines_for(message.headers)
                if more is None:
                    return None
                lines += more
            return self._refuse(message, lines)
        except Exception:  # noqa: BLE001  (the ordinary way meets it again, answers it and logs it)
            return None

    def _send(self, answer: bytes) -> None:
        protocol = self._protocol
        self._parser.message_consumed()
        protocol._next_keepalive_close_time = protocol._loop.time() + protocol._keepalive_timeout
        if protocol.transport is not None:
            protocol.transport.write(answer)

    def __getattr__(self, name: str) -> Any:
        """All else is the parser's."""
        return getattr(self._parser, name)


def _address(path: str) -> str:
    """What decides where a request goes, of the path as it was received."""
    return path.partition("?")[0]
