"""The servers Tollgate stands on, for one machine: PostgreSQL and Valkey, data kept in ``.run/``.

``EmbeddedPostgres`` and ``EmbeddedValkey`` are one server each; ``DevServers`` is the pair, started
only where no URL names a server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scripts.account import ServersUnavailable, reachable_home
from scripts.loopback import LoopbackServer
from scripts.postgres import EmbeddedPostgres
from scripts.valkey import EmbeddedValkey

__all__ = ["DevServers", "EmbeddedPostgres", "EmbeddedValkey", "ServersUnavailable", "devservers"]


@dataclass(frozen=True, slots=True)
class DevServers:
    """Where both servers are, and those of them that we started."""

    database_url: str
    redis_url: str
    started: tuple[LoopbackServer, ...]


@contextlib.contextmanager
def devservers(
    run: Path, *, database_url: str | None, redis_url: str | None, max_connections: int = 200
) -> Iterator[DevServers]:
    """Both servers while the block lasts; a URL that is given is used as it is.

    Their data is below ``run``, whose lock the caller holds (``scripts.lock``). Raises
    ServersUnavailable, for example where there are no binaries for this platform.
    """
    with ExitStack() as stack:
        started: list[LoopbackServer] = []
        if redis_url is None:
            valkey = stack.enter_context(EmbeddedValkey(reachable_home(run / "valkey")))
            started.append(valkey)
            redis_url = valkey.url
        if database_url is None:
            postgres = stack.enter_context(
                EmbeddedPostgres(reachable_home(run / "postgres"), max_connections=max_connections)
            )
            started.append(postgres)
            database_url = postgres.url
        yield DevServers(database_url, redis_url, tuple(started))
