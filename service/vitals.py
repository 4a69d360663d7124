"""What a worker tells the fleet of itself at this moment, asked of the parts it is true of."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import service
from service.fleet.board import Board
from service.fleet.counting import Counting
from service.fleet.fleet import Fleet, Vitals
from service.fleet.models import Identity, Use

if TYPE_CHECKING:
    from service.admission.limiter import Limiter
    from service.database import Database
    from service.health import Health
    from service.jobs.runs import Runs
    from service.metrics import Metrics
    from service.payments.gateway import PaymentGateway
    from service.settings import Settings
    from service.store.client import Store


def fleet_of(
    settings: Settings,
    store: Store,
    metrics: Metrics,
    classes: Mapping[str, str | None],
    vitals: Callable[[], Vitals],
) -> Fleet:
    """The fleet as seen and told by this worker, not yet started."""
    server, secret = settings.server, settings.admin.key_secret
    port = server.internal_port if server.role == "jobs" else server.port
    return Fleet(
        Board(store),
        Counting(metrics.registry, classes, clock=time.monotonic),
        identity=Identity(
            worker=secrets.token_hex(8),
            replica=f"{socket.gethostname()}:{port}"[:100],
            pid=os.getpid(),
            version=service.__version__,
            role=server.role,
            started_s=round(time.time(), 3),
        ),
        vitals=vitals,
        refused=metrics.admission.denied.taken,
        secret=secret.get_secret_value() if secret else None,
    )


def vitals_of(
    settings: Settings,
    limiter: Limiter,
    database: Database,
    gateway: PaymentGateway,
    runs: Runs,
    health: Health,
    metrics: Metrics,
) -> Callable[[], Vitals]:
    """Called for each report; it only reads memory."""
    server = settings.server
    runs_at_once = 0 if server.role == "web" else settings.jobs.concurrency

    def vitals() -> Vitals:
        pool = database.status()
        return Vitals(
            waiting_clients=Use(metrics.status.waiting, server.waiting_clients),
            pool=Use(pool.used, pool.maximum, pool.waiting),
            bulkhead=Use(gateway.in_flight, settings.payment.bulkhead),
            runs=Use(runs.held, runs_at_once),
            limiter=limiter.status().mode,
            modes=tuple(map(str, health.snapshot().modes)),
        )

    return vitals
