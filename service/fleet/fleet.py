"""The fleet as this worker knows it: it tells of itself every two seconds, and reads all others.

Nothing here is on the way of a request: numbers come from the plain counters that are kept anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from service.errors import DeadlineExceeded, StoreUnavailable
from service.fleet.board import Board
from service.fleet.counting import Counted, Counting, numbers_of
from service.fleet.heavy import HeavyHitters, denied
from service.fleet.lag import Lag
from service.fleet.models import Identity, Numbers, Picture, Report, Sample, Seen, Use
from service.fleet.picture import MOST_DENIED, picture_of
from service.fleet.pseudonym import Pseudonyms
from service.tasks import end

log = structlog.get_logger()

#: Spread, so that a fleet does not tell in step.
TELL_INTERVAL_S = (1.7, 2.3)
#: However many look at the page, Redis is asked once in this time.
PICTURE_LIFE_S = 0.9
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Vitals:
    """What is true of this worker at one moment; ``vitals`` of the wiring tells it."""

    waiting_clients: Use
    pool: Use
    bulkhead: Use
    runs: Use
    limiter: str
    modes: tuple[str, ...]


class Fleet:
    """``picture`` and ``past`` never fail: without Redis they are of this worker alone.

    ``refused`` gives who was refused since it was last called; ``secret`` hides who they are.
    """

    def __init__(
        self,
        board: Board,
        counting: Counting,
        *,
        identity: Identity,
        vitals: Callable[[], Vitals],
        refused: Callable[[], Mapping[str, int]],
        secret: str | None,
    ) -> None:
        self._board = board
        self._counting = counting
        self._identity = identity
        self._vitals = vitals
        self._refused = refused
        self._hitters = HeavyHitters()
        self._salt = secrets.token_hex(16)
        self._salted = secret is None
        self._pseudonyms = Pseudonyms((secret or self._salt).encode())
        self._report: Report | None = None
        self._reported_s = time.monotonic()
        self._picture: asyncio.Task[Picture] | None = None
        self._picture_until_s = 0.0
        self._lag: Lag | None = None
        self._telling: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Fleet seen by {self._identity.worker}>"

    def pseudonym(self, principal: str) -> tuple[str, str]:
        """Kind and hash of a principal, as the page shows it."""
        return self._pseudonyms.of(principal)

    async def start(self) -> None:
        """Tell now, and go on telling."""
        self._lag = Lag()
        self._lag.start()
        self._counting.look()
        self._telling = asyncio.create_task(self._keep_telling(), name="fleet-report")

    async def stop(self) -> None:
        """Tell no longer, and be taken off the board."""
        if self._telling is None:
            return
        await end(self._telling)
        self._telling = None
        if self._lag is not None:
            self._lag.stop()
        with contextlib.suppress(StoreUnavailable, DeadlineExceeded):
            await self._board.leave(self._identity.worker)

    async def picture(self) -> Picture:
        """All live workers; asked by many at once, it is read once."""
        now_s = time.monotonic()
        if self._picture is None or (self._picture.done() and now_s >= self._picture_until_s):
            self._picture_until_s = now_s + PICTURE_LIFE_S
            self._picture = asyncio.create_task(self._read(), name="fleet-picture")
        return await asyncio.shield(self._picture)

    async def past(self) -> tuple[Sample, ...]:
        """The last minutes, oldest first; nothing where Redis is away."""
        try:
            return await self._board.samples()
        except (StoreUnavailable, DeadlineExceeded):
            return ()

    async def tell(self) -> None:
        """One report; keeps a sample of all where one is due. Raises StoreUnavailable."""
        report = self._report = self._made()
        due, salt = await self._board.tell(report, salt=self._salt)
        if self._salted and salt.decode() != self._salt:
            # Another worker was first: what it hides, all hide alike.
            self._salt = salt.decode()
            self._pseudonyms = Pseudonyms(salt)
        if due:
            picture = await self._read()
            if picture.whole:
                at_s = time.time()
                sample = Sample(at_s, len(picture.workers), picture.lag_ms, picture.numbers)
                await self._board.keep(sample)

    async def _keep_telling(self) -> None:
        while True:
            try:
                await self.tell()
            except (StoreUnavailable, DeadlineExceeded):
                pass  # the store has said so
            except Exception:
                # A worker that stopped telling would look dead.
                log.exception("fleet_report_failed")
            await asyncio.sleep(random.uniform(*TELL_INTERVAL_S))  # noqa: S311 - no secret

    async def _read(self) -> Picture:
        try:
            found = await self._board.read()
        except (StoreUnavailable, DeadlineExceeded):
            own = self._report or self._made()
            age_s = time.monotonic() - self._reported_s
            return picture_of((Seen(own, age_s),), whole=False)
        return picture_of(found.seen, whole=True, unreadable=found.unreadable)

    def _made(self) -> Report:
        now_s = time.monotonic()
        self._hitters.add(self._refused(), after_s=now_s - self._reported_s)
        self._reported_s = now_s
        counted = self._counting.look()
        window_s, rates = self._counting.window()
        vitals = self._vitals()
        return Report(
            identity=self._identity,
            numbers=_with(numbers_of(rates), vitals, counted),
            window_s=round(window_s, 2),
            requests=counted.requests,
            denied=denied(self._hitters, self._pseudonyms, MOST_DENIED),
            limiter=vitals.limiter,
            modes=vitals.modes,
            lag_ms=self._lag.worst_ms() if self._lag else 0.0,
            memory_bytes=_memory_bytes(),
        )


def _with(numbers: Numbers, vitals: Vitals, counted: Counted) -> Numbers:
    return replace(
        numbers,
        in_flight=counted.in_flight,
        jobs=counted.jobs,
        waiting_clients=vitals.waiting_clients,
        pool=vitals.pool,
        bulkhead=vitals.bulkhead,
        runs=vitals.runs,
    )


def _memory_bytes() -> int:
    """Resident; 0 where the system does not say."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
