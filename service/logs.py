"""One JSON line per event on stderr, for our own events and those of the libraries alike.

Events are named in lower snake case with fields; the request id comes from a context variable, what
else is bound from structlog's. Secrets are masked by the name of their field, and passwords inside
URLs wherever they stand. A TollgateError with a code of its own is expected: it gets that code,
never a stack trace.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from service.errors import TollgateError

if TYPE_CHECKING:
    from service.settings import LoggingSettings

MASK = "***"
_SECRET_NAME = re.compile(
    r"(?i)passw(or)?d|passphrase|secret|api[_-]?key|authorization|credential|cookie|(^|_)token$"
)
#: The password of scheme://user:password@host, up to the last @ as Redis's client reads it; a user
#: alone is kept, it helps and opens nothing.
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):[^\s/]*@")
#: libpq's other form: password=... inside a connection string.
_DSN_PASSWORD = re.compile(r"(?i)\b(password)=('(?:[^'\\]|\\.)*'|[^\s&]+)")
#: Says a line a request or a tick; only of use when hunting a fault in those libraries themselves.
_CHATTY = ("asyncio", "gunicorn.error", "aiohttp.access", "redis")

#: What aiohttp raises for bytes that are no request, by the module of the class.
_UNREADABLE = "aiohttp.http_exceptions"
_PARSER = "_http_parser"

log = structlog.get_logger()

#: The request that is being served: a variable of its own costs a request a quarter of what binding
#: in structlog's does, and is looked at only when something is logged.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
#: Its trace, while tracing is on.
TRACE_ID: ContextVar[str | None] = ContextVar("trace_id", default=None)


def configure_logging(settings: LoggingSettings, *, stream: TextIO | None = None) -> None:
    """Send structlog and the standard library's logging through one formatter to ``stream``."""
    stream = stream or sys.stderr
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        with_request_id,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _expected_failures_without_stack,
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Processor = structlog.processors.JSONRenderer(serializer=_to_json)
    if settings.format == "console":
        shared.append(_one_line)
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _route_standard_logging(shared, renderer, level, stream)
    _Direct.stream = stream if settings.format == "json" and level <= logging.INFO else None


class _Direct:
    stream: TextIO | None = None


def json_stream() -> TextIO | None:
    """Where lines go, for who writes whole ones himself; None where they have another form."""
    return _Direct.stream


def with_request_id(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Name the request the event belongs to, where there is one."""
    request_id = REQUEST_ID.get()
    if request_id is not None:
        event.setdefault("request_id", request_id)
    trace_id = TRACE_ID.get()
    if trace_id is not None:
        event["trace_id"] = trace_id
    return event


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Mask what a secret's name or a URL's password part gives away, at any depth."""
    return {name: _masked(name, value) for name, value in event.items()}


def without_password(url: str) -> str:
    """A URL or connection string fit to be shown."""
    return _DSN_PASSWORD.sub(rf"\1={MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}@", url))


def _masked(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if value and _SECRET_NAME.search(name):
            return MASK
        return without_password(value) if "@" in value or "=" in value else value
    if value is None or isinstance(value, int | float):
        return value
    if _SECRET_NAME.search(name):
        return MASK
    if isinstance(value, Mapping):
        return {key: _masked(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(name, item) for item in value]
    return without_password(str(value))


def _expected_failures_without_stack(
    _logger: WrappedLogger, _method: str, event: EventDict
) -> EventDict:
    info = event.get("exc_info")
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, TollgateError) and error.code != TollgateError.code:
        del event["exc_info"]
        event["error"] = error.code
        event["reason"] = error.message
    return event


def _unreadable_is_no_failure(record: logging.LogRecord) -> bool:
    """Bytes that are no HTTP are whoever sent them's affair: one line, no stack, not an error."""
    error = record.exc_info[1] if record.exc_info else None
    if type(error).__module__ != _UNREADABLE:
        return True
    client = record.args[0] if isinstance(record.args, tuple) and record.args else None
    log.info("request_unreadable", client=str(client), kind=type(error).__name__)
    return False


def _unparsable_is_no_failure(record: logging.LogRecord) -> bool:
    """Nor is what the parser itself breaks at, such as ``GET http://[]:@/`` with yarl 1.25."""
    error = record.exc_info[1] if record.exc_info else None
    frames = traceback.walk_tb(error.__traceback__) if error is not None else ()
    if not any(_PARSER in frame.f_code.co_filename for frame, _ in frames):
        return True
    log.info("request_unreadable", kind=type(error).__name__)
    return False


def _to_json(event: EventDict, **_options: Any) -> str:
    """When, how bad, what; then the fields."""
    ordered = {name: event.pop(name) for name in ("timestamp", "level", "event") if name in event}
    return json.dumps({**ordered, **event}, default=str, separators=(",", ":"))


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Control characters in a library's message must not fake a second line for people."""
    event["event"] = str(event["event"]).encode("unicode_escape").decode("ascii")
    return event


def _route_standard_logging(
    shared: list[Processor], renderer: Processor, level: int, stream: TextIO
) -> None:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(level, logging.WARNING) if level > 10 else level)
    logging.getLogger("aiohttp.server").addFilter(_unreadable_is_no_failure)
    logging.getLogger("asyncio").addFilter(_unparsable_is_no_failure)
    logging.captureWarnings(True)
