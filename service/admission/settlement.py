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
import re
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from typing import Any

import structlog

from service.admission.clock import ScriptClock
from service.admission.denials import Denials
from service.admission.fallback import Debt, LocalShare
from service.admission.models import Mode
from service.store.guard import FAILURES_BEFORE_REST
from service.store.line import pack
from service.store.scripts import Script

log = structlog.get_logger()

#: How often an absent Redis is asked, spread so that a fleet does not ask at the same instant.
ASK_AGAIN_S = 0.5
#: Longer than two workers may differ in noticing that Redis is back: one question, its time-outs.
SETTLING_S = 2.0
#: Buckets per round trip: bounded work for Redis, which has others to serve as well.
_BATCH = 64
_SERVER = pack("INFO", "server")


class Outage:
    """``mode`` says who decides; ``share`` decides for this worker while it is not ``fleet``.

    ``exchange`` is the node's gate on a line of its own; ``holds`` says whether a key is (still)
    this node's.
    """

    def __init__(
        self,
        exchange: Callable[[Sequence[bytes]], Awaitable[list[Any]]],
        script: Script,
        clock: ScriptClock,
        denials: Denials,
        *,
        workers: Callable[[], int],
        holds: Callable[[str], bool] = lambda _key: True,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._exchange = exchange
        self._script = script
        self._clock = clock
        self._denials = denials
        self._workers = workers
        self._holds = holds
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
            workers = self._workers()
            log.warning("limiter_degraded", workers=workers)
            self.share.begin(workers=workers, since_us=since_us)
            self._recovery = asyncio.get_running_loop().create_task(
                self._recover(), name="limiter-recovery"
            )
        self._enter("away")

    async def check(self) -> None:
        """A question got no answer: find out whether this is an outage before a request does."""
        for _ in range(FAILURES_BEFORE_REST):
            if self.mode != "fleet" or (await self._exchange([_SERVER]))[0] is not None:
                return

    async def meet(self) -> None:
        """Remember which server this is, so as to know another one after an outage."""
        self._server = _run_id((await self._exchange([_SERVER]))[0])

    async def stop(self) -> None:
        """Give up waiting; what is owed is settled if Redis answers now."""
        if self._recovery is None:
            return
        self._recovery.cancel()
        await asyncio.gather(self._recovery, return_exceptions=True)
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
        (reply,) = await self._exchange([_SERVER])
        if reply is None:
            return False
        server = _run_id(reply)
        if server is not None and server == self._server:
            return True
        known = [Debt(key, 0, 0) for key in self._denials.not_full() if self._holds(key)]
        for start in range(0, len(known), _BATCH):
            if not await self._charge(known[start : start + _BATCH]):
                return False
        self._server = server
        # Each knows a little; all of it must be there before anyone adds to it.
        await asyncio.sleep(SETTLING_S)
        return True

    async def _settle(self) -> bool:
        """Charge what is owed until nothing is; False where Redis does not answer."""
        while debts := list(islice(self.share.owing(), _BATCH)):
            if not await self._charge(debts):
                return False
            for debt in debts:
                self.share.settled(debt)
        return True

    async def _charge(self, debts: Sequence[Debt]) -> bool:
        now_us = await self._clock.now_us(self._exchange)
        if now_us is None:
            return False
        commands = [self._script.packed_load()]
        for debt in debts:
            # An arrival time is restored or added to, never both: a debt may be sent again.
            ahead_us = 0 if debt.owed_us else self._denials.ahead_us(debt.key)
            args = (now_us, ahead_us, debt.owed_us, debt.capacity_us)
            commands.append(self._script.packed([debt.key], args))
        replies = await self._exchange(commands)
        if not now_us and any(self._clock.refused(reply) for reply in replies):
            return await self._charge(debts)
        return all(isinstance(reply, int) for reply in replies[1:])

    def _enter(self, mode: Mode) -> None:
        if mode != self.mode:
            self.mode = mode
            self._changed()

    def __repr__(self) -> str:
        return f"<Outage {self.mode} {self.share!r}>"


def _run_id(reply: Any) -> bytes | None:
    """Which start of which server this is, if it says so."""
    match = re.search(rb"run_id:(\w+)", reply) if isinstance(reply, bytes) else None
    return match[1] if match else None
