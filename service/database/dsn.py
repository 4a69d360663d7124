"""From the operator's URL to what libpq is told, and to what may be shown in a log."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from service.errors import ConfigurationError

# How long a dead peer stays unnoticed on an idle connection: 5 s + 3 probes of 2 s. Without these
# the kernel waits two hours, and every query on such a connection costs its whole time-out.
_KEEPALIVES = {"keepalives": "1", "keepalives_idle": "5", "keepalives_interval": "2",
               "keepalives_count": "3"}  # fmt: skip
# The same for a connection with data under way, which keepalives do not watch.
_TCP_USER_TIMEOUT_MS = 10_000
# The server looks this often whether a busy connection's client is still there (PostgreSQL 14+);
# without it, a query whose caller has left runs on to its end.
_CLIENT_CHECK_INTERVAL_MS = 1_000
# A row lock is waited for less long than a request lives.
_LOCK_TIMEOUT_MS = 2_000


@dataclass(frozen=True, slots=True)
class Dsn:
    """libpq's parameters of one server."""

    params: Mapping[str, str]
    #: What a statement brings along because the connection cannot: SQL, for its transaction only.
    besides: str = ""
    #: Does a connection pooler stand in between?
    pooler: bool = False

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        application_name: str,
        statement_timeout_s: float | None = None,
        pooler: bool = False,
        setting: str = "database.url",
    ) -> Dsn:
        """Check the URL and add what every connection of ours needs; the URL's own words win.

        ``statement_timeout_s`` None leaves the server's limits on statements and locks as they are
        (migrations). A ``pooler`` refuses settings that belong to a connection: it lends it anew
        for each transaction. Raises ConfigurationError, which names the ``setting`` and never
        shows the URL: it may hold a password.
        """
        try:
            params = {name: str(value) for name, value in parse_dsn(url).items()}
        except psycopg2.ProgrammingError:
            raise ConfigurationError(
                f"{setting} is not a PostgreSQL URL such as"
                " postgresql://user:password@host:5432/name"
            ) from None
        for name in ("host", "hostaddr", "port"):
            if "," in params.get(name, ""):
                raise ConfigurationError(
                    f"{setting} names several servers ({name}); name one, and let DNS, a proxy or"
                    " a floating address do the failover"
                )
        # Of a password with a bare / the first part is read as a port, and would be shown as one.
        port = params.get("port") or "5432"
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise ConfigurationError(
                f"{setting} names no port from 1 to 65535; in a password / is written as %2F,"
                " and @ as %40"
            )
        limited = statement_timeout_s is not None
        options = [] if pooler else [
            f"-c client_connection_check_interval={_CLIENT_CHECK_INTERVAL_MS}",
            "-c TimeZone=UTC",
        ]  # fmt: skip
        if statement_timeout_s is not None and not pooler:
            options += [
                f"-c statement_timeout={max(1, round(statement_timeout_s * 1000))}",
                f"-c lock_timeout={_LOCK_TIMEOUT_MS}",
            ]
        ours = {
            "application_name": application_name,
            "tcp_user_timeout": str(_TCP_USER_TIMEOUT_MS),
            **_KEEPALIVES,
        }
        theirs = params.pop("options", "")
        if all_options := " ".join([*options, theirs]).strip():
            params["options"] = all_options
        besides = f"SET LOCAL lock_timeout = {_LOCK_TIMEOUT_MS}; " if pooler and limited else ""
        return cls({**ours, **params}, besides, pooler)

    async def resolve(self) -> str:
        """What psycopg2 is given, the host's addresses looked up without stopping the loop.

        libpq would look them up itself, but synchronously: a slow name server would hold up every
        request of the worker. All addresses are passed on, and libpq tries them in turn.
        """
        host = self.params.get("host", "")
        if not host or host.startswith(("/", "@")) or "hostaddr" in self.params or _numeric(host):
            return make_dsn(**self.params)
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        return make_dsn(
            **{
                **self.params,
                "host": ",".join([host] * len(addresses)),
                "hostaddr": ",".join(addresses),
            }
        )

    def __str__(self) -> str:
        """``user@host:port/name``, for logs."""
        params = self.params
        host = params.get("host") or params.get("hostaddr") or "local socket"
        user = f"{params['user']}@" if "user" in params else ""
        return f"{user}{host}:{params.get('port', '5432')}/{params.get('dbname', '')}"


def _numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
