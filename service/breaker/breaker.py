"""One circuit breaker for the whole fleet: its state is a hash in Redis, changed only by scripts.

Guarantees: failures in a row anywhere in the fleet open it; while open nobody calls; after the
recovery time exactly one probe is in flight in the fleet, under a lease that frees itself; a late
result of an earlier state changes nothing. While Redis is away each worker goes by its own shadow.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Literal

import structlog

from service.breaker.models import BreakerSnapshot, Outcome, Permit
from service.breaker.shadow import ShadowBreaker
from service.deadline import CURRENT
from service.errors import CircuitOpen, StoreUnavailable
from service.store import keys
from service.store.client import Store

if TYPE_CHECKING:
    from service.settings import BreakerSettings

log = structlog.get_logger()

#: A dependency that asks for more rest than this is asked again after it.
LONGEST_PAUSE_S = 300.0
#: So that a forgotten force ends before the hash does.
LONGEST_FORCE_S = 86_400.0
#: Enough to know what failed; the rest is in the logs.
_DETAIL_CHARACTERS = 200


class Breaker:
    """``acquire``, call, ``report``. ``name`` comes from the settings, never from a request."""

    def __init__(self, name: str, settings: BreakerSettings, store: Store) -> None:
        self._name = name
        self._key = keys.breaker(name)
        self._threshold = settings.failure_threshold
        self._recovery_us = round(settings.recovery_seconds * 1_000_000)
        self._lease_us = round(settings.probe_lease_seconds * 1_000_000)
        self._acquire = store.script(__package__, "acquire", keys=1)
        self._report = store.script(__package__, "report", keys=1)
        self._pause = store.script(__package__, "pause", keys=1)
        self._force = store.script(__package__, "force", keys=1)
        self._peek = store.script(__package__, "peek", keys=1)
        self._shadow = ShadowBreaker(settings)
        self._degraded = False
        self._reports: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Let reports still on their way arrive."""
        await asyncio.gather(*self._reports)

    async def acquire(self) -> Permit:
        """A permit for one call, which must be reported. Raises CircuitOpen with a wait."""
        token = secrets.token_hex(12)
        args = (token, self._lease_us, self._recovery_us)
        limits = (round(LONGEST_PAUSE_S * 1_000_000), keys.BREAKER_LIFE_MS)
        try:
            reply = await self._acquire([self._key], [*args, *limits])
        except StoreUnavailable:
            self._note(degraded=True)
            return self._shadow.acquire(token)
        self._note(degraded=False)
        admitted, word, generation, retry_after_ms = reply
        if not admitted:
            retry_after_s = retry_after_ms / 1000
            self._shadow.mirror_open(retry_after_s)
            raise CircuitOpen(retry_after_s=retry_after_s)
        mode: Literal["normal", "probe", "forced"] = word.decode()
        if mode == "probe":
            log.info("breaker_probe", breaker=self._name)
        else:
            self._shadow.mirror_closed()
        return Permit(generation, token, mode)

    async def report(self, permit: Permit, outcome: Outcome, *, detail: str = "") -> None:
        """What came of the call. Never raises, and arrives even if the caller is cancelled."""
        await self._detached(self._deliver(permit, outcome, detail[:_DETAIL_CHARACTERS]))

    async def snapshot(self) -> BreakerSnapshot:
        """What the next caller would meet; without Redis this worker's own view."""
        try:
            state, generation, streak, wait_ms, force = await self._peek([self._key], [])
        except StoreUnavailable:
            return self._shadow.snapshot()
        return BreakerSnapshot(state.decode(), streak, wait_ms, generation, forced=bool(force))

    async def pause(self, seconds: float) -> None:
        """Let nobody call for a while: the dependency said 429. Without Redis: nobody here."""
        seconds = min(max(seconds, 0.0), LONGEST_PAUSE_S)
        self._shadow.pause(seconds)
        await self._detached(self._tell_pause(seconds))

    async def force(
        self, state: Literal["open", "closed"], seconds: float, *, by: str, reason: str
    ) -> None:
        """Hold it in ``state`` for ``seconds`` (at most a day). Raises StoreUnavailable."""
        if not 0 < seconds <= LONGEST_FORCE_S:
            raise ValueError(f"a force lasts up to {LONGEST_FORCE_S:.0f} s, not {seconds:g} s")
        await self._command(state, seconds, by, reason)

    async def reset(self, *, by: str, reason: str) -> None:
        """Closed, nothing counted, no pause, no force. Raises StoreUnavailable."""
        await self._command("reset", 0, by, reason)

    async def _command(self, verb: str, seconds: float, by: str, reason: str) -> None:
        args = (verb, round(seconds * 1_000_000), by, reason, keys.BREAKER_LIFE_MS)
        before = await self._force([self._key], args)
        log.warning(
            "breaker_commanded", breaker=self._name, command=verb, seconds=seconds, by=by,
            reason=reason, before=before.decode(),
        )  # fmt: skip

    async def _detached(self, news: Coroutine[Any, Any, None]) -> None:
        """Neither the caller's cancellation nor its deadline ends it: the fleet must know."""

        async def deliver() -> None:
            CURRENT.set(None)
            await news

        task = asyncio.create_task(deliver())
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
        await asyncio.shield(task)

    async def _tell_pause(self, seconds: float) -> None:
        try:
            await self._pause([self._key], [round(seconds * 1_000_000), keys.BREAKER_LIFE_MS])
        except StoreUnavailable:
            self._note(degraded=True)

    async def _deliver(self, permit: Permit, outcome: Outcome, detail: str) -> None:
        if permit.mode == "local":
            self._shadow.report(permit, outcome)
            return
        if permit.mode == "forced" or (permit.mode == "normal" and outcome is Outcome.NEUTRAL):
            return
        args = (
            permit.generation, permit.token, outcome.value, self._threshold, self._recovery_us,
            keys.BREAKER_LIFE_MS, detail,
        )  # fmt: skip
        try:
            verdict, before, after = await self._twice(args)
        except StoreUnavailable:
            self._note(degraded=True)
            self._shadow.observe(outcome)
            return
        if verdict == b"applied":
            self._shadow.observe(outcome)
        if before != after:
            if after == b"open":
                self._shadow.mirror_open(self._recovery_us / 1_000_000)
            log.warning(
                "breaker_changed", breaker=self._name, before=before.decode(),
                after=after.decode(), detail=detail,
            )  # fmt: skip

    async def _twice(self, args: tuple[str | int, ...]) -> list[bytes]:
        """The same report twice counts once, so a lost reply may be asked for again."""
        try:
            return await self._report([self._key], args)  # type: ignore[no-any-return]
        except StoreUnavailable:
            return await self._report([self._key], args)  # type: ignore[no-any-return]

    def _note(self, *, degraded: bool) -> None:
        if degraded == self._degraded:
            return
        self._degraded = degraded
        log.info("breaker_degraded" if degraded else "breaker_recovered", breaker=self._name)

    def __repr__(self) -> str:
        view = f"local {self._shadow.snapshot().state}" if self._degraded else "fleet"
        return f"<Breaker {self._name} {view}>"
