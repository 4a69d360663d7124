"""One line in the log for each request: who asked for what, and what became of it.

``access_sample`` is the share of requests that get one. Failures always do, a refusal for its
limit or for overload does not: a flood of those must not become a flood in the log.

Reason for the second way of writing it: through structlog's processors a line costs 18 µs (37 under
load), as much as the bare handler; put together here, from parts that most lines have in common,
and written with others of a tenth of a second, 2 µs. What may need masking or is a failure goes
through structlog; a test compares the two.
"""

from __future__ import annotations

import asyncio
import atexit
import random
import time
from json.encoder import encode_basestring_ascii as quoted
from select import PIPE_BUF
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import structlog

from service import logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from yarl import URL

    from service.api.keys import RequestRecord

#: Lines wait this long for others at most, and for so many; a killed worker loses as much. Few
#: enough to be still in the processor's cache when they are written.
WAIT_S = 0.1
MOST_LINES = 64
#: Frames kept ready; more than there are.
MOST_FRAMES = 1024
_MAX_PATH = 200
_MAX_METHOD = 20
_DENIED = 429

log = structlog.get_logger()
_random = random.Random()  # noqa: S311 - which requests to tell of, not secrets


def write(
    method: str,
    url: URL,
    record: RequestRecord,
    status: int,
    route: str | None,
    *,
    sample: float,
) -> None:
    """Write the line of a request that has just ended, if it is to have one."""
    refused = status == _DENIED or record.turned_away
    if sample < 1 and (status < 400 or refused) and _random.random() >= sample:
        return
    path = url.raw_path[:_MAX_PATH]
    if not path.isascii():
        path = path.encode("ascii", "backslashreplace").decode()
    duration_ms = (time.monotonic() - record.received_s) * 1000
    stream = logs.json_stream()
    failed = status >= 500 and not refused
    if stream is None or failed or "@" in path or "=" in path:
        _write_through_structlog(method, record, status, route, path, round(duration_ms, 2))
    else:
        _together.add(stream, _line(method, record, status, route, path, duration_ms))


class _Together:
    """Lines that are written at once, a little later."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._stream: TextIO | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._second_text = ""

    def add(self, stream: TextIO, line: str) -> None:
        self._lines.append(line)
        if self._timer is None:
            self._stream = stream
            self._timer = asyncio.get_running_loop().call_later(WAIT_S, self._on_time)
        elif len(self._lines) >= MOST_LINES:
            self.write()

    def write(self) -> None:
        lines, self._lines = self._lines, []
        if self._stream is not None:
            for piece in _pieces(lines):
                self._stream.write(piece)
                self._stream.flush()

    def now(self) -> str:
        """As structlog's own time stamps."""
        now_s = time.time()
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{int((now_s - second) * 1_000_000):06d}Z"

    def _on_time(self) -> None:
        self._timer = None
        self.write()


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Whole lines, as many at once as no other worker's can come between on a pipe (POSIX)."""
    piece: list[str] = []
    length = 0
    for line in lines:  # of ASCII: as many bytes as characters
        if length + len(line) > PIPE_BUF and piece:
            yield "".join(piece)
            piece, length = [], 0
        piece.append(line)
        length += len(line)
    if piece:
        yield "".join(piece)


_together = _Together()
atexit.register(_together.write)


class _Frame(NamedTuple):
    """What is the same in the lines of a route's answers of one kind."""

    before_path: str
    before_duration: str
    policy: str
    problem: str


#: By method, route, status, policy and problem: all from closed sets.
_frames: dict[tuple[str, str | None, int, str | None, str | None], _Frame] = {}


def _line(
    method: str,
    record: RequestRecord,
    status: int,
    route: str | None,
    path: str,
    duration_ms: float,
) -> str:
    kind = (method, route, status, record.policy, record.problem)
    frame = _frames.get(kind) or _frame(kind)
    key = _key(record)
    about = "" if key is None else _member("key", key)
    if record.flow is not None:
        about += _member("flow", record.flow)
    if record.job is not None:
        about += _member("job", record.job)
    detail = "" if record.detail is None else _member("detail", record.detail)
    return (
        f'{{"timestamp":"{_together.now()}{frame.before_path}{quoted(path)}{frame.before_duration}'
        f'{duration_ms:.2f},"client":{quoted(record.client.address)}{frame.policy}{about}'
        f'{frame.problem}{detail},"request_id":{quoted(record.request_id)}{_trace()}}}\n'
    )


def _frame(kind: tuple[str, str | None, int, str | None, str | None]) -> _Frame:
    method, route, status, policy, problem = kind
    if len(_frames) >= MOST_FRAMES:
        _frames.clear()
    frame = _frames[kind] = _Frame(
        before_path=(
            f'","level":"info","event":"request","method":{quoted(method[:_MAX_METHOD])}'
            f',"route":{quoted(route) if route else "null"},"path":'
        ),
        before_duration=f',"status":{status},"duration_ms":',
        policy="" if policy is None else _member("policy", policy),
        problem="" if problem is None else _member("problem", problem),
    )
    return frame


def _key(record: RequestRecord) -> str | None:
    """The name the operator gave the client's API key; ``unknown`` for one that is none of ours."""
    client = record.client
    return client.key or (None if client.origin is None else "unknown")


def _trace() -> str:
    trace_id = logs.TRACE_ID.get()
    return "" if trace_id is None else f',"trace_id":"{trace_id}"'


def _member(name: str, value: str) -> str:
    return f',"{name}":{quoted(value)}'


def _write_through_structlog(
    method: str,
    record: RequestRecord,
    status: int,
    route: str | None,
    path: str,
    duration_ms: float,
) -> None:
    tell: Any = log.warning if status >= 500 and not record.turned_away else log.info
    optional = {
        "policy": record.policy,
        "key": _key(record),
        "flow": record.flow,
        "job": record.job,
        "problem": record.problem,
        "detail": record.detail,
    }
    tell(
        "request",
        method=method[:_MAX_METHOD],
        route=route,
        path=path,
        status=status,
        duration_ms=duration_ms,
        client=record.client.address,
        **{name: value for name, value in optional.items() if value is not None},
        request_id=record.request_id,
    )
