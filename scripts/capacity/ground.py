"""Where it is measured: one replica with so many workers, on a durable PostgreSQL and a Valkey."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.contestants import LIFTED
from scripts.capacity.meter import Meter
from scripts.devservers import EmbeddedPostgres, EmbeddedValkey
from scripts.running import Running
from scripts.stack import stack

_SETTINGS = {
    # Asked for all that it can do: nobody shall be turned away because that is much.
    "TOLLGATE_OVERLOAD__ENABLED": "false",
    "TOLLGATE_SERVER__TRUSTED_PROXIES": "127.0.0.1/32",
}


@dataclass(frozen=True, slots=True)
class Servers:
    redis_url: str
    database_url: str


@dataclass(frozen=True, slots=True)
class Replica:
    workers: int
    service: Running
    meter: Meter


@contextlib.contextmanager
def servers(home: Path) -> Iterator[Servers]:
    """Durable: what a commit waits for is the disk's time."""
    with (
        EmbeddedValkey(home / "valkey") as valkey,
        EmbeddedPostgres(home / "postgres", durable=True) as postgres,
    ):
        yield Servers(valkey.url, postgres.url)


@contextlib.contextmanager
def replica(
    home: Path, there: Servers, workers: int, *, limits: Mapping[str, str] = LIFTED
) -> Iterator[Replica]:
    """Without nginx, whose share is known: so the clients meet the workers themselves."""
    home.mkdir()
    settings = {
        **limits,
        **_SETTINGS,
        "TOLLGATE_SERVER__WORKERS": str(workers),
        "TOLLGATE_DATABASE__URL": there.database_url,
        "TOLLGATE_REDIS__URL": there.redis_url,
    }
    with stack(home, settings) as up:
        meter = Meter(os.getpid(), there.redis_url, there.database_url, up.service.internal_url)
        try:
            yield Replica(workers, up.service, meter)
        finally:
            meter.close()
