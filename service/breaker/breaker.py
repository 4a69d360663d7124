"""One circuit breaker for the whole fleet: its state is a hash in Redis, changed only by scripts.

Guarantees: failures in a row anywhere in the fleet open it; while open nobody calls; after the
recovery time exactly one probe is in flight in the fleet, under a lease that frees itself; a late
result of an earlier state changes nothing. While open, most refusals cost no call to Redis; while
Redis is away each worker goes by its own shadow.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Literal

import structlog

from service.breaker.fleet import FleetBreaker
from service.breaker.mirror import Mirror
from service.breaker.models import (
    BreakerSnapshot,
    Event,
    Outcome,
    Permit,
    Refusal,
    Ruling,
    Transition,
)
from service.breaker.shadow import ShadowBreaker
from service.deadline import CURRENT
from service.errors import CircuitOpen, StoreUnavailable
from service.store.client import Store

if TYPE_CHECKING:
    from service.settings import BreakerSettings

log = structlog.get_logger()

#: A dependency that asks for more rest than this is asked again after it.
LONGEST_PAUSE_S = 300.0
#: So that a forgotten force ends before the hash does.
LONGEST_FORCE_S = 86_400.0
#: After an outage of Redis, which may have lost the state, this worker's own refusals hold on.
STRICT_S = 1.0
#: Enough to know what failed; the rest is in the logs.
_DETAIL_CHARACTERS = 200

Observer = Callable[[Transition], None]


class Breaker:
    """``acquire``, call, ``report``. ``name`` comes from the settings, never from a request.

    ``on_transition`` hears of every transition exactly once in the fleet: in the process whose
    call made it. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        name: str,
        settings: BreakerSettings,
        store: Store,
        *,
        on_transition: Observer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._store = store
        self._by_request = settings.count == "requests"
        self._recovery_s = settings.recovery_seconds
        self._on_transition = on_transition
        self._clock = clock
        worker = f"{socket.gethostname()}:{os.getpid()}"
        self._fleet = FleetBreaker(name, settings, store, worker=worker)
        self._mirror = Mirror(clock=clock)
        self._shadow = ShadowBreaker(settings, clock=clock)
        self._degraded = False
        self._strict_until_s = 0.0
        self._reports: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Let reports still on their way arrive."""
        await asyncio.gather(*self._reports)

    async def acquire(self) -> Permit:
        """A permit for one call, which must be reported. Raises CircuitOpen with a wait."""
        if (wait_s := self._mirror.wait_s() or self._strict_wait_s()) > 0:
            raise CircuitOpen(retry_after_s=wait_s)
        asked_at_s, token = self._clock(), secrets.token_hex(12)
        try:
            ruling = await self._ask(token)
        except StoreUnavailable:
            self._note(degraded=True)
            return self._shadow.acquire(token)
        self._note(degraded=False)
        self._tell(ruling.transitions)
        if isinstance(ruling.answer, Refusal):
            self._remember(ruling.answer, asked_at_s)
            raise CircuitOpen(retry_after_s=ruling.answer.retry_after_s)
        self._mirror.forget()
        if (wait_s := self._strict_wait_s()) > 0:
            self._send(self._deliver(ruling.answer, Outcome.NEUTRAL, token, "redis was away"))
            raise CircuitOpen(retry_after_s=wait_s)
        if ruling.answer.mode != "probe":
            self._shadow.mirror_closed()
        return ruling.answer

    async def refusal_s(self) -> float:
        """How much longer calls are certainly refused; 0: nobody knows before one asks.

        Takes no permit, so it is for those who would rather not begin what cannot be finished.
        """
        if (wait_s := self._mirror.wait_s()) > 0 or not self._mirror.holds:
            return wait_s
        asked_at_s, seen = self._clock(), await self.snapshot()
        if seen.state != "open" or seen.retry_after_ms <= 0:
            self._mirror.forget()
            return 0.0
        wait_s = seen.retry_after_ms / 1000
        self._mirror.remember(wait_s, asked_at_s=asked_at_s)
        return wait_s

    async def report(
        self, permit: Permit, outcome: Outcome, *, detail: str = "", request: str = ""
    ) -> None:
        """What came of the call. Never raises, and arrives even if the caller is cancelled.

        ``request``: whose attempt it was; several attempts of one request count as one failure
        where ``breaker.count`` says so.
        """
        member = _word(request) if request and self._by_request else permit.token
        await asyncio.shield(
            self._send(self._deliver(permit, outcome, member, detail[:_DETAIL_CHARACTERS]))
        )

    async def snapshot(self) -> BreakerSnapshot:
        """What the next caller would meet; without Redis this worker's own view."""
        try:
            return await self._fleet.peek()
        except StoreUnavailable:
            return self._shadow.snapshot()

    async def history(self, limit: int = 10) -> tuple[Event, ...]:
        """The latest transitions, newest first. Raises StoreUnavailable."""
        return await self._fleet.history(limit)

    async def pause(self, seconds: float) -> None:
        """Let nobody call for a while: the dependency said 429. Without Redis: nobody here."""
        seconds = min(max(seconds, 0.0), LONGEST_PAUSE_S)
        self._shadow.pause(seconds)
        await asyncio.shield(self._send(self._tell_pause(seconds)))

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

    async def _ask(self, token: str) -> Ruling:
        """Once more after the first failure: the token makes it the same question."""
        known_away = self._store.away
        try:
            return await self._fleet.acquire(token)
        except StoreUnavailable:
            if known_away:
                raise
            return await self._fleet.acquire(token)

    def _remember(self, refusal: Refusal, asked_at_s: float) -> None:
        if refusal.reason == "pause":
            self._shadow.pause(refusal.retry_after_s)
        else:
            self._shadow.mirror_open(refusal.retry_after_s)
        if refusal.reason == "half-open":  # ends with the probe's report, at any moment
            self._mirror.forget()
        else:
            self._mirror.remember(refusal.retry_after_s, asked_at_s=asked_at_s)

    def _strict_wait_s(self) -> float:
        """The shadow's own refusal, for as long as it still holds beside the fleet's answer."""
        left_s = self._strict_until_s - self._clock()
        return min(self._shadow.wait_s(), left_s) if left_s > 0 else 0.0

    async def _command(
        self, verb: Literal["open", "closed", "reset"], seconds: float, by: str, reason: str
    ) -> None:
        reason = reason[:_DETAIL_CHARACTERS]
        made = await self._fleet.command(verb, seconds, by=by, reason=reason)
        self._mirror.forget()
        self._strict_until_s = 0.0
        self._tell([made], by=by, reason=reason, seconds=seconds)

    def _send(self, news: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Neither the caller's cancellation nor its deadline ends it: the fleet must know."""

        async def deliver() -> None:
            CURRENT.set(None)
            await news

        task = asyncio.create_task(deliver())
        self._reports.add(task)
        task.add_done_callback(self._reports.discard)
        return task

    async def _tell_pause(self, seconds: float) -> None:
        try:
            await self._fleet.pause(seconds)
        except StoreUnavailable:
            self._note(degraded=True)

    async def _deliver(self, permit: Permit, outcome: Outcome, member: str, detail: str) -> None:
        if permit.mode == "local":
            self._shadow.report(permit, outcome)
            return
        self._shadow.observe(outcome)
        if permit.mode == "forced" or (permit.mode == "normal" and outcome is Outcome.NEUTRAL):
            return
        try:
            transitions = await self._twice(permit, outcome, member, detail)
        except StoreUnavailable:
            self._note(degraded=True)
            if permit.mode == "probe" and outcome is not Outcome.NEUTRAL:
                self._follow("open" if outcome is Outcome.FAIL else "closed")
            return
        for made in transitions:
            self._follow(made.after)
        self._tell(transitions, detail=detail)

    async def _twice(
        self, permit: Permit, outcome: Outcome, member: str, detail: str
    ) -> tuple[Transition, ...]:
        """The same report twice counts once, so a lost reply may be asked for again."""
        try:
            return await self._fleet.report(permit, outcome, member=member, detail=detail)
        except StoreUnavailable:
            return await self._fleet.report(permit, outcome, member=member, detail=detail)

    def _follow(self, state: str) -> None:
        """Keep this worker's own view in step with a change its report made."""
        if state == "open":
            self._shadow.mirror_open(self._recovery_s)
        else:
            self._mirror.forget()
            self._shadow.mirror_closed()

    def _tell(self, transitions: Sequence[Transition], **more: str | float) -> None:
        for made in transitions:
            tell = log.info if made.before == made.after else log.warning
            tell(
                "breaker_changed", breaker=self._name, before=made.before, after=made.after,
                cause=made.cause, **more,
            )  # fmt: skip
            if self._on_transition is not None:
                self._on_transition(made)

    def _note(self, *, degraded: bool) -> None:
        if degraded == self._degraded:
            return
        self._degraded = degraded
        if not degraded:
            self._strict_until_s = self._clock() + STRICT_S
        log.info("breaker_degraded" if degraded else "breaker_recovered", breaker=self._name)

    def __repr__(self) -> str:
        view = f"local {self._shadow.snapshot().state}" if self._degraded else "fleet"
        return f"<Breaker {self._name} {view}>"


def _word(request: str) -> str:
    """One word of fixed length, whatever names the request."""
    return hashlib.blake2s(request.encode(), digest_size=12).hexdigest()
