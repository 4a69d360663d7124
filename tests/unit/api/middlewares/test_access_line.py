"""The access line written directly, and by structlog: the same line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from select import PIPE_BUF
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from yarl import URL

from service import logs
from service.admission.rulebook import Client
from service.api.keys import RequestRecord
from service.api.middlewares import access_line
from service.settings import LoggingSettings

CLOCKS = re.compile(r'(?<="timestamp":")[^"]+|(?<="duration_ms":)[\d.]+')
KEYED = Client("192.0.2.1", "key:partner", "partner")
#: Who shows a key that is none of ours.
NOBODYS = Client("192.0.2.1", "key:*", None, origin="ip:192.0.2.1")
PLAIN = RequestRecord("r-1", Client("192.0.2.1", "ip:192.0.2.1"), 0.0)


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where the lines go; everything global is put back afterwards."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    # The module's own keeps the first stream it writes to.
    monkeypatch.setattr(access_line, "log", structlog.get_logger())
    monkeypatch.setattr(logs._Direct, "stream", None)
    yield io.StringIO()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


async def written(stream: io.StringIO, settings: LoggingSettings, *what: Any) -> str:
    logs.configure_logging(settings, stream=stream)
    access_line.write(*what, sample=1.0)
    await asyncio.sleep(access_line.WAIT_S * 2)
    return stream.getvalue()


def fields(line: str) -> list[tuple[str, Any]]:
    """In order, without what clocks put into it."""
    found: dict[str, Any] = json.loads(line)
    assert len(found.pop("timestamp")) == len("2026-11-23T15:44:44.078119Z")
    assert found.pop("duration_ms") > 0
    return list(found.items())


@pytest.mark.parametrize(
    ("path", "record", "status", "route"),
    [
        ("/flows", PLAIN, 503, "/flows"),
        ("/flows", PLAIN, 200, "/flows"),
        ("/flows?token=x", PLAIN, 200, "/flows"),
        ('/%22quo"ted\\/%00', PLAIN, 404, None),
        ("/x" * 300, replace(PLAIN, problem="not-found"), 404, None),
        (
            "/flows",
            replace(PLAIN, policy="flows", problem="quota-exceeded", detail='Quota "flows" é\n'),
            429,
            "/flows",
        ),
        ("/flows", replace(PLAIN, problem="overloaded", turned_away=True), 503, "/flows"),
        ("/a/status", replace(PLAIN, policy="status", flow="a", job="j-1"), 200, "/{flow}/status"),
        ("/flows", replace(PLAIN, client=KEYED), 200, "/flows"),
        ("/flows", replace(PLAIN, client=NOBODYS), 200, "/flows"),
        ("/\u2028\x85\r\n", replace(PLAIN, flow='\r\n{"event":"x"}', job="\u2028"), 200, None),
    ],
)
async def test_line_is_the_one_structlog_writes(
    stream: io.StringIO, path: str, record: RequestRecord, status: int, route: str | None
) -> None:
    what = ("GET", URL(path, encoded=True), record, status, route)
    directly = await written(stream, LoggingSettings(), *what)
    stream.seek(0)
    stream.truncate()
    logs._Direct.stream = None
    access_line.write(*what, sample=1.0)
    (by_structlog,) = stream.getvalue().splitlines()
    (line,) = directly.splitlines()
    assert fields(line) == fields(by_structlog)
    assert CLOCKS.sub("", line) == CLOCKS.sub("", by_structlog)


async def test_a_flood_of_refusals_is_sampled_and_failures_are_not(stream: io.StringIO) -> None:
    logs.configure_logging(LoggingSettings(), stream=stream)
    refused = replace(PLAIN, problem="overloaded", turned_away=True)
    for record, status in ((refused, 503), (PLAIN, 429), (replace(PLAIN, request_id="r-2"), 503)):
        access_line.write("GET", URL("/flows"), record, status, "/flows", sample=0.0)
    await asyncio.sleep(access_line.WAIT_S * 2)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["request_id"] == "r-2"


async def test_lines_are_written_together_and_soon(stream: io.StringIO) -> None:
    logs.configure_logging(LoggingSettings(), stream=stream)
    for _ in range(3):
        access_line.write("GET", URL("/flows"), PLAIN, 200, "/flows", sample=1.0)
    assert stream.getvalue() == ""
    await asyncio.sleep(access_line.WAIT_S * 2)
    assert len(stream.getvalue().splitlines()) == 3


async def test_many_lines_do_not_wait(stream: io.StringIO) -> None:
    logs.configure_logging(LoggingSettings(), stream=stream)
    for number in range(access_line.MOST_LINES + 1):
        record = replace(PLAIN, request_id=f"r-{number}")
        access_line.write("GET", URL("/flows"), record, 200, "/flows", sample=1.0)
    assert len(stream.getvalue().splitlines()) == access_line.MOST_LINES
    await asyncio.sleep(access_line.WAIT_S * 2)
    written = [json.loads(line)["request_id"] for line in stream.getvalue().splitlines()]
    assert written == [f"r-{number}" for number in range(access_line.MOST_LINES + 1)]


async def test_no_line_is_torn_where_workers_share_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written at once up to PIPE_BUF stays together; more is cut where a full pipe ends."""
    pieces: list[str] = []
    monkeypatch.setattr(access_line._together, "_stream", SimpleNamespace(
        write=pieces.append, flush=lambda: None
    ))  # fmt: skip
    lines = [f"{'x' * (PIPE_BUF // 8 + number % 7)}\n" for number in range(access_line.MOST_LINES)]
    lines[7] = f"{'y' * 2 * PIPE_BUF}\n"  # what is longer by itself goes by itself
    monkeypatch.setattr(access_line._together, "_lines", [*lines])
    access_line._together.write()
    assert "".join(pieces) == "".join(lines)
    assert all(piece.endswith("\n") for piece in pieces)
    assert [piece for piece in pieces if len(piece) > PIPE_BUF] == [lines[7]]
    assert len(pieces) < len(lines) / 2


async def test_kinds_of_lines_are_not_kept_without_end(stream: io.StringIO) -> None:
    logs.configure_logging(LoggingSettings(), stream=stream)
    for number in range(access_line.MOST_FRAMES + 10):
        record = replace(PLAIN, policy=f"p-{number}")
        access_line.write("GET", URL("/flows"), record, 200, "/flows", sample=1.0)
    assert len(access_line._frames) <= access_line.MOST_FRAMES
    await asyncio.sleep(access_line.WAIT_S * 2)
    assert f'"policy":"p-{number}"' in stream.getvalue().splitlines()[-1]


@pytest.mark.parametrize("path", ["/pay/https://me:hunter2@host/", "/password=hunter2"])
async def test_what_may_be_secret_is_masked_first(stream: io.StringIO, path: str) -> None:
    url = URL(path, encoded=True)
    text = await written(stream, LoggingSettings(), "GET", url, PLAIN, 200, None)
    assert "request" in text
    assert "hunter2" not in text


@pytest.mark.parametrize("settings", [{"level": "warning"}, {"format": "console"}])
async def test_level_and_form_hold(stream: io.StringIO, settings: dict[str, Any]) -> None:
    shown = LoggingSettings(**settings)
    text = await written(stream, shown, "GET", URL("/flows"), PLAIN, 200, "/flows")
    assert ("request" in text) == ("format" in settings)
    assert not text.startswith("{")


@pytest.mark.parametrize(
    ("client", "key"), [(KEYED, "partner"), (NOBODYS, "unknown"), (PLAIN.client, None)]
)
async def test_a_key_is_named_never_shown(
    stream: io.StringIO, client: Client, key: str | None
) -> None:
    record = replace(PLAIN, client=client)
    text = await written(stream, LoggingSettings(), "GET", URL("/flows"), record, 200, "/flows")
    assert json.loads(text).get("key") == key
