"""From the operator's URL to libpq's parameters."""

from __future__ import annotations

import asyncio
import socket

import pytest
from psycopg2.extensions import parse_dsn

from service.database.dsn import Dsn
from service.errors import ConfigurationError


def parsed(url: str) -> Dsn:
    return Dsn.parse(url, application_name="tollgate", statement_timeout_s=59.5)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@a,b/x",
        "postgresql://me:secret@a:1,b:2/x",
        "postgresql://me:secret,/word@a/x",
        "host=a,b user=me password=secret",
        "hostaddr=10.0.0.1,10.0.0.2 user=me password=secret",
    ],
)
def test_several_servers_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="several servers") as raised:
        parsed(url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["me:secret@a/x", "postgresql+aiopg://me:secret@a/x", "secret"])
def test_what_is_no_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not a PostgreSQL URL") as raised:
        parsed(url)
    assert "secret" not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    "url",
    ["postgresql://me:secret/word@a/x", "postgresql://a:0/x", "postgresql://a:70000/x"],
)
def test_port_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="no port") as raised:
        parsed(url)
    assert "secret" not in str(raised.value)


def test_every_connection_is_limited_and_watched() -> None:
    params = parsed("postgresql://me@a/x").params
    assert params["application_name"] == "tollgate"
    assert params["keepalives_idle"] == "5"
    assert params["tcp_user_timeout"] == "10000"
    for option in ("statement_timeout=59500", "client_connection_check_interval=1000",
                   "lock_timeout=2000", "TimeZone=UTC"):  # fmt: skip
        assert f"-c {option}" in params["options"]


def test_the_urls_own_words_win() -> None:
    params = parsed(
        "postgresql://me@a/x?application_name=other&keepalives_idle=60"
        "&options=-c%20statement_timeout%3D1000"
    ).params
    assert (params["application_name"], params["keepalives_idle"]) == ("other", "60")
    # The server takes the last of several.
    assert params["options"].endswith("-c statement_timeout=1000")


def test_without_a_limit_the_servers_own_holds() -> None:
    options = Dsn.parse("postgresql://a/x", application_name="migrate").params["options"]
    assert "statement_timeout" not in options
    assert "lock_timeout" not in options


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@a:6432/x", "me@a:6432/x"),
        ("postgresql://a/x", "a:5432/x"),
        ("postgresql:///x?user=me&password=secret", "me@local socket:5432/x"),
    ],
)
def test_a_log_shows_the_server_and_never_the_password(url: str, shown: str) -> None:
    assert str(parsed(url)) == shown


async def test_all_addresses_of_a_host_are_handed_to_libpq(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look_up(host: str, port: None, *, type: int) -> list[tuple[object, ...]]:  # noqa: A002
        kind = (socket.AF_INET, type, 6, "")
        return [(*kind, ("10.0.0.1", 0)), (*kind, ("10.0.0.2", 0)), (*kind, ("10.0.0.1", 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    params = parse_dsn(await parsed("postgresql://me@db.internal:6432/x").resolve())
    assert params["hostaddr"] == "10.0.0.1,10.0.0.2"
    assert params["host"] == "db.internal,db.internal"
    assert params["port"] == "6432"


@pytest.mark.parametrize(
    "url", ["postgresql://127.0.0.1/x", "postgresql://[::1]/x", "postgresql://%2Ftmp/x",
            "postgresql://a/x?hostaddr=10.0.0.1", "postgresql:///x"],
)  # fmt: skip
async def test_what_needs_no_look_up_gets_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", None)
    dsn = parsed(url)
    assert parse_dsn(await dsn.resolve()) == dsn.params
