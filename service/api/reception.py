"""How requests come in: what aiohttp would end by itself, before any of our steps sees it.

Left alone, an unknown ``Expect`` is answered 417 in plain text, or 500 if it is no text at all; the
address of a host whose name cannot be decoded ends the connection's task, and whoever asked waits
for ever; and a compressed body is unpacked on the loop to its very end, a thousand times its size,
also where nobody reads it. None of these would be counted, limited or logged as a request.

Leans on a private part of aiohttp 3.14: ``Application._make_request``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from aiohttp import hdrs, web
from aiohttp.http import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy

#: For every application: bodies stay as they were sent, ``unpacking`` is for who reads them.
HANDLER_ARGS: Final = {"auto_decompress": False}
_CONTINUE = "100-continue"

_Make = Callable[..., web.Request]


def admit_all(app: web.Application) -> None:
    """From now on whatever can be parsed becomes a request of ``app``."""
    app._make_request = partial(_made, app._make_request)  # type: ignore[method-assign]


def _made(make: _Make, message: RawRequestMessage, *rest: Any) -> web.Request:
    expected = message.headers.get(hdrs.EXPECT)
    if expected is not None and expected.lower() != _CONTINUE:
        message = _expecting_nothing(message)
    try:
        return make(message, *rest)
    except UnicodeError:  # only the path matters here, whichever host was meant
        return make(message._replace(url=message.url.relative()), *rest)


def _expecting_nothing(message: RawRequestMessage) -> RawRequestMessage:
    """As a server may that knows no such expectation (RFC 9110, 10.1.1)."""
    headers = CIMultiDict(message.headers)
    del headers[hdrs.EXPECT]
    return message._replace(headers=CIMultiDictProxy(headers))
