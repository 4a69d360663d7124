"""An outage of one Redis node, from its first lost batch until the node is trusted again.

    fleet ── three batches lost in a row ──► away ── answers, all settled ──► settling ──► fleet
                                              ▲                                  │ lost again
                                              └──────────────────────────────────┘

``away``: no request asks Redis; each worker grants its share (``fallback``). One task asks whether
Redis is back, and then charges there what this worker admitted and restores what it knew, should
the server have lost its data.
``settling``: others may not have settled yet, so until they had the time a request must pass both
its share and Redis. Without this the first worker back could spend what the others have spent
already: measured as a second burst. A settlement that got no answer is sent again; charged twice it
leaves a bucket empty at worst, forgotten it would leave a bucket too full.

So over any interval, the outage included, the fleet admits at most burst + rate × time, if every
worker noticed the outage (heartbeats make the idle ones notice, within about two seconds) and
lived to settle it. A worker cut off alone, or killed before settling, adds its own share, at most
rate / N for that time.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

import structlog

from service.admission.fallback import Debt, LocalShare, Place
from service.admission.models import Mode
from service.errors import StoreUnavailable
from service.store.guard import FAILURES_BEFORE_REST
from service.tasks import end

log = structlog.get_logger()

#: How often an absent Redis is asked, spread so that a fleet does not ask at the same instant.
ASK_AGAIN_S = 0.5
#: Longer than two workers may differ in noticing that Redis is back: one question, its time-outs.
SETTLING_S = 2.0
#: Buckets per round trip: bounded work for Redis, which has others to serve as well.
_BATCH = 64


class RedisNode(Protocol):
    """What is asked of it here (``node``)."""

    async def server(self) -> bytes | None: ...
    def known(self) -> list[Debt]: ...
    async def charge(self, debts: Sequence[Debt]) -> bool: ...


class Outage:
    """``mode`` says who decides; ``share`` decides for this worker while it is not ``fleet``."""

    def __init__(
        self,
        node: RedisNode,
        *,
        place: Callable[[], Place],
        changed: Callable[[], None],
    ) -> None:
        self._node = node
        self._place = place
        self._changed = changed
        self.mode: Mode = "fleet"
        self.share = LocalShare()
        self._server: bytes | None = None
        self._recovery: asyncio.Task[None] | None = None

    def begin(self, since_us: int) -> None:
        """Redis is given up; ``since_us`` is when the first batch went out that it never answered.

        Nobody has been admitted by anyone from there since, so the shares have filled since then.
        """
        if self.mode == "fleet":
            place = self._place()
            log.warning("limiter_degraded", workers=place.workers)
            self.share.begin(place, since_us=since_us)
            self._recovery = asyncio.get_running_loop().create_task(
                self._recover(), name="limiter-recovery"
            )
        self._enter("away")

    async def check(self) -> None:
        """With each heartbeat, for the worker that is not asking: is Redis there, and the same?

        One that was restarted so quickly that nobody missed it is told what is known.
        """
        for _ in range(FAILURES_BEFORE_REST):
            if self.mode != "fleet":
                return
            server = await self._asked()
            if server is not None:
                if server != self._server and await self._recall():
                    self._server = server
                return

    async def stop(self) -> None:
        """Give up waiting; what is owed is settled if Redis answers now."""
        if self._recovery is None:
            return
        await end(self._recovery)
        self._recovery = None
        await self._settle()

    async def _recover(self) -> None:
        while self.mode != "fleet":
            await asyncio.sleep(ASK_AGAIN_S * random.uniform(0.8, 1.2))  # noqa: S311
            try:
                if not (await self._restore() and await self._settle()):
                    continue
            except Exception:
                log.exception("limiter_settlement_failed")
                continue
            # No await since the last look at the debts: whoever comes now asks Redis as well.
            self._enter("settling")
            await asyncio.sleep(SETTLING_S)
            if self.mode == "settling":
                self.share.end()
                self._enter("fleet")
        log.info("limiter_recovered")

    async def _restore(self) -> bool:
        """Tell another server than before what is known of its buckets; False: no answer."""
        server = await self._asked()
        if server is None:
            return False
        if server == self._server or self._server is None:
            self._server = server
            return True
        if not await self._recall():
            return False
        self._server = server
        # Each worker knows a little; all of it must be there before anyone adds to it.
        await asyncio.sleep(SETTLING_S)
        return True

    async def _recall(self) -> bool:
        known = self._node.known()
        for start in range(0, len(known), _BATCH):
            if not await self._node.charge(known[start : start + _BATCH]):
                return False
        return True

    async def _settle(self) -> bool:
        """Charge what is owed until nothing is; False where Redis does not answer."""
        while debts := list(islice(self.share.owing(), _BATCH)):
            if not await self._node.charge(debts):
                return False
            for debt in debts:
                self.share.settled(debt)
        return True

    async def _asked(self) -> bytes | None:
        try:
            return await self._node.server()
        except StoreUnavailable:
            return None

    def _enter(self, mode: Mode) -> None:
        if mode != self.mode:
            self.mode = mode
            self._changed()

    def __repr__(self) -> str:
        return f"<Outage {self.mode} {self.share!r}>"
