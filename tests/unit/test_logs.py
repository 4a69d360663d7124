"""What reaches stderr: one line an event, nothing secret, no stack where none is of use."""

import asyncio
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from aiohttp import web
from pydantic import SecretStr

from service import logs
from service.errors import StatementFailed, StoreUnavailable
from service.logs import configure_logging, without_password
from service.settings import LoggingSettings

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """A place for the lines; everything global is put back afterwards."""
    monkeypatch.setattr(logs._Direct, "stream", None)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {n: logging.getLogger(n).level for n in ("asyncio", "gunicorn.error", "redis")}
    yield io.StringIO()
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, old in levels.items():
        logging.getLogger(name).setLevel(old)


@pytest.fixture
def lines(stream: io.StringIO) -> Lines:
    configure_logging(LoggingSettings(), stream=stream)
    return lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def log_failure(log: Any, failure: Exception) -> None:
    try:
        raise failure
    except type(failure):
        log.exception("broken")


def test_event_is_one_json_line_with_time_level_and_request_id(lines: Lines) -> None:
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger().info("job_started", job_id="j-1", text="two\nlines")
    (line,) = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "job_started",
        "level": "info",
        "request_id": "r-1",
        "job_id": "j-1",
        "text": "two\nlines",
    }


def test_library_lines_go_through_the_same_formatter(lines: Lines) -> None:
    structlog.contextvars.bind_contextvars(request_id="r-2")
    logging.getLogger("aiohttp.server").warning("odd request from %s", "10.0.0.1")
    (line,) = lines()
    assert line["event"] == "odd request from 10.0.0.1"
    assert line["logger"] == "aiohttp.server"
    assert line["level"] == "warning"
    assert line["request_id"] == "r-2"


def test_warnings_become_lines(lines: Lines) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old ways", stacklevel=1)
    assert "old ways" in lines()[0]["event"]


def test_level_holds_for_both_kinds(stream: io.StringIO) -> None:
    configure_logging(LoggingSettings(level="error"), stream=stream)
    structlog.get_logger().warning("quiet_please")
    logging.getLogger("aiohttp.server").warning("quiet")
    assert stream.getvalue() == ""
    structlog.get_logger().error("loud")
    assert "loud" in stream.getvalue()


def test_configuring_again_does_not_double_the_lines(stream: io.StringIO) -> None:
    for _ in range(3):
        configure_logging(LoggingSettings(), stream=stream)
    logging.getLogger("aiohttp.server").warning("once")
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "db_password",
        "token",
        "admin_token",
        "api_key",
        "apikey",
        "X-API-Key",
        "Authorization",
        "client_secret",
        "Cookie",
    ],
)
def test_field_with_a_secret_name_is_masked(lines: Lines, name: str) -> None:
    log = structlog.get_logger()
    log.info("asked", **{name: "hunter2"})
    log.info("asked", headers={"deep": [{name: "hunter2"}], name: ["hunter2"]})
    log.info("asked", **{name: {"inner": "hunter2"}})
    assert "hunter2" not in json.dumps(lines())
    assert len(lines()) == 3


@pytest.mark.parametrize("name", ["tokens", "token_count", "keyboard", "key", "idempotency"])
def test_field_with_a_harmless_name_is_kept(lines: Lines, name: str) -> None:
    structlog.get_logger().info("counted", **{name: "value-7"})
    assert lines()[0][name] == "value-7"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://tg:hunter2@db:5432/tg", "postgresql://tg:***@db:5432/tg"),
        ("redis://:hunter2@cache/0", "redis://:***@cache/0"),
        ("redis://:hunter2@hunter2@cache/0", "redis://:***@cache/0"),
        ("a://x:hunter2@b, c://y:hunter2@d/@e", "a://x:***@b, c://y:***@d/@e"),
        ("host=db user=tg password=hunter2 port=5432", "host=db user=tg password=*** port=5432"),
        ("host=db password='hunter2 \\' x' port=1", "host=db password=*** port=1"),
        ("postgresql://db/tg?password=hunter2&x=1", "postgresql://db/tg?password=***&x=1"),
        ("https://payments.example/api?limit=3", "https://payments.example/api?limit=3"),
        ("mail someone@example.org", "mail someone@example.org"),
    ],
)
def test_password_inside_an_address_is_masked(lines: Lines, url: str, shown: str) -> None:
    assert without_password(url) == shown
    structlog.get_logger().info("connecting", dsn=url)
    logging.getLogger("redis").error("cannot reach %s", url)
    assert lines()[0]["dsn"] == shown
    assert lines()[1]["event"] == f"cannot reach {shown}"


def test_password_in_a_stack_trace_is_masked(lines: Lines) -> None:
    failure = ValueError("no route to postgresql://tg:hunter2@db/tg")
    log_failure(structlog.get_logger(), failure)
    (line,) = lines()
    assert "Traceback" in line["exception"]
    assert "hunter2" not in line["exception"]


def test_secret_wrappers_and_foreign_objects_are_shown_without_secret(lines: Lines) -> None:
    structlog.get_logger().info("asked", value=SecretStr("hunter2"), raw=b"x", kind=ValueError("y"))
    assert lines()[0]["value"] == "**********"


@pytest.mark.parametrize("ours", [True, False])
def test_expected_failure_has_code_and_no_stack(lines: Lines, ours: bool) -> None:
    log_failure(
        structlog.get_logger() if ours else logging.getLogger("aiohttp.server"), StoreUnavailable()
    )
    (line,) = lines()
    assert line["error"] == "redis-unavailable"
    assert "exception" not in line
    assert "Traceback" not in json.dumps(line)


def test_fault_of_this_program_keeps_its_stack(lines: Lines) -> None:
    log_failure(structlog.get_logger(), StatementFailed())
    assert "Traceback" in lines()[0]["exception"]


def test_unserialisable_values_never_break_a_line(lines: Lines) -> None:
    lone = json.loads('"\\ud800"')
    structlog.get_logger().info(
        "odd", text=lone, number=10**400, future=asyncio.Lock(), keys={1: 2}
    )
    assert lines()[0]["text"] == lone


def test_console_form_is_for_people_and_still_one_line(stream: io.StringIO) -> None:
    configure_logging(LoggingSettings(format="console"), stream=stream)
    logging.getLogger("aiohttp.server").warning("bad\nline\x1b[31m from %s", "x")
    structlog.get_logger().info("job_started", text="two\nlines", password="hunter2")
    first, second = stream.getvalue().splitlines()
    assert "bad\\nline" in first
    assert "\x1b" not in stream.getvalue()
    assert "job_started" in second
    assert "hunter2" not in second


async def test_what_breaks_the_parser_is_one_line_without_a_stack(
    lines: Lines, aiohttp_server: Any
) -> None:
    server = await aiohttp_server(web.Application())
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET http://[]:@/ HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.read()
    writer.close()
    told = lines()
    assert [(line["event"], line["level"]) for line in told] == [("request_unreadable", "info")]
    assert told[0]["kind"] == "IndexError"


def test_other_failures_of_the_loop_are_told_with_their_stack(lines: Lines) -> None:
    log_failure(logging.getLogger("asyncio"), IndexError("of ours"))
    [line] = lines()
    assert (line["level"], "of ours" in line["exception"]) == ("error", True)
