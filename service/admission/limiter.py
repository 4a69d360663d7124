"""Admission for the whole fleet: one script call decides all limits of a request.

Guarantee: over every interval of time T, what all workers together admit under one policy for one
subject is at most burst + rate × T, as long as Redis keeps its data; while it is away, and after,
as far as ``settlement`` says. What a request costs here, and why it is so little: ``gate``.

On one server all charges of a request are one call, all or nothing. On a cluster a client's and the
fleet's buckets may lie on two nodes: the client's come first, and are given back if the fleet's
deny, which can only admit too little.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import structlog

from service.admission.call import Call, Calls
from service.admission.clock import ScriptClock
from service.admission.denials import Denials
from service.admission.fallback import Place
from service.admission.lanes import Lanes
from service.admission.models import (
    SEVERITY,
    Charge,
    Decision,
    LimiterStatus,
    Mode,
    Policy,
    Subject,
)
from service.admission.observer import LimiterObserver
from service.errors import DeadlineExceeded, StoreUnavailable
from service.store import keys
from service.store.client import Store
from service.store.scripts import Script
from service.tasks import end

log = structlog.get_logger()

#: Several heartbeats fit into one life, so that one lost does not make a worker dead.
HEARTBEAT_S = keys.WORKER_LIFE_MS / 1000 / 10
_NOTHING_TO_CHECK = Decision(allowed=True, states=())


class Limiter:
    """``deny_locally``, then ``take``; ``start`` and ``stop``: this worker's presence in the fleet.

    ``workers_hint`` is how many workers there are at least: the divisor of the local share until
    heartbeats have counted more.
    """

    def __init__(
        self, store: Store, *, workers_hint: int, observer: LimiterObserver | None = None
    ) -> None:
        self._observer = observer
        self._clock = ScriptClock()
        self._denials = Denials()
        self._take = store.script(__package__, "take", keys=None)
        self._refund = store.script(__package__, "refund", keys=None)
        self._heartbeat = store.script(__package__, "heartbeat", keys=1)
        self._calls = Calls(self._take)
        self._lanes = Lanes(
            store,
            self._take,
            store.script(__package__, "settle", keys=1),
            self._clock,
            self._denials,
            place=lambda: self._place,
            observer=observer,
        )
        self._store = store
        self._least_workers = max(1, workers_hint)
        # Until the first heartbeat any place is as likely as another.
        self._place = Place(secrets.randbelow(self._least_workers), self._least_workers)
        self._worker_id = secrets.token_hex(8)
        self._beating: asyncio.Task[None] | None = None

    @property
    def degraded(self) -> bool:
        """Does this worker decide (also) by its own share at the moment?"""
        return any(lane.outage.mode != "fleet" for lane in self._lanes)

    @property
    def workers(self) -> int:
        """How many workers the last heartbeat knew of (at least the hint)."""
        return self._place.workers

    def status(self) -> LimiterStatus:
        """For operators."""
        worst: Mode = "fleet"
        for lane in self._lanes:
            worst = max(worst, lane.outage.mode, key=SEVERITY.index)
        return LimiterStatus(
            mode=worst, workers=self._place.workers, known_buckets=len(self._denials)
        )

    async def start(self) -> None:
        """Announce this worker and keep announcing it."""
        await self._beat()
        self._beating = asyncio.create_task(self._keep_beating(), name="limiter-heartbeat")

    async def stop(self) -> None:
        """Settle what is owed and leave the fleet, so that the others' shares grow at once."""
        if self._beating is not None:
            await end(self._beating)
        await self._lanes.close()
        if self._beating is None:
            return
        self._beating = None
        try:
            await self._run(self._heartbeat, [keys.workers()], [self._worker_id, 0])
        except (StoreUnavailable, DeadlineExceeded):
            log.info("worker_left_unannounced", worker=self._worker_id)

    def deny_locally(self, charges: Sequence[Charge]) -> Decision | None:
        """The denial Redis would send now, without asking it; None: ask with ``take``."""
        denial = self._denials.deny(charges)
        if denial is not None and self._observer is not None:
            self._observer.local_denial()
        return denial

    async def take(self, charges: Sequence[Charge]) -> Decision:
        """Charge all or none. Without Redis the policies' ``on_outage`` decides.

        Raises StoreUnavailable under a ``closed`` policy. Whoever is cancelled here may have been
        charged.
        """
        if not charges:
            return _NOTHING_TO_CHECK
        call = self._calls.of(tuple(charges))
        if call.owners > 1 and self._store.clustered:
            return await self._take_parts(self._parts(charges))
        return await self._lanes.of(call).take(call)

    async def peek(self, charges: Sequence[Charge]) -> Decision:
        """What ``take`` would decide now; nothing is charged. Raises StoreUnavailable."""
        seen = _NOTHING_TO_CHECK
        for call in self._parts(charges):
            terms = [term for charge in call.charges for term in charge.terms]
            seen = _both(seen, call.outlook(await self._run(self._take, call.keys, [0, *terms])))
        return seen

    async def reset(self, policy: Policy, subject: Subject) -> bool:
        """Fill one bucket; True if it was not full. Raises StoreUnavailable.

        Other workers deny by what they knew for a second at most.
        """
        key = keys.bucket(policy.name, str(subject), shadow=policy.shadow)
        removed = await self._store.run(lambda: self._store.client.delete(key))
        self._denials.forget(key)
        return bool(removed)

    async def refund(self, charges: Sequence[Charge]) -> None:
        """Give back what ``take`` charged. Raises StoreUnavailable; then it may have happened."""
        for call in self._parts(charges):
            await self._run(self._refund, call.keys, [charge.price_us for charge in call.charges])
            for key in call.keys:
                self._denials.forget(key)

    async def _take_parts(self, parts: Sequence[Call]) -> Decision:
        decision, taken = _NOTHING_TO_CHECK, list[Charge]()
        for part in parts:
            try:
                answer = await self._lanes.of(part).take(part)
            except StoreUnavailable:
                await self._give_back(taken)
                raise
            decision = _both(decision, answer)
            if not answer.allowed:
                await self._give_back(taken)
                break
            if not answer.degraded:
                taken += part.charges
        return decision

    async def _give_back(self, taken: Sequence[Charge]) -> None:
        try:
            await self.refund(taken)
        except (StoreUnavailable, DeadlineExceeded):
            log.info("refund_lost", policies=[charge.policy.name for charge in taken])

    def _parts(self, charges: Sequence[Charge]) -> list[Call]:
        """The charges by subject, whose buckets share a node; clients' before the fleet's."""
        parts: dict[Subject, list[Charge]] = {}
        for charge in sorted(charges, key=lambda charge: charge.subject.kind):
            parts.setdefault(charge.subject, []).append(charge)
        return [self._calls.of(tuple(part)) for part in parts.values()]

    async def _run(self, script: Script, names: Sequence[str], args: Sequence[str | int]) -> Any:
        """A script beside the gates; sent again only where it could not ask for the time."""
        while True:
            now_us = 0
            if handed_in := self._clock.handed_in:
                seconds, micros = await self._store.run(self._store.client.time)
                now_us = seconds * 1_000_000 + micros
            try:
                return await script(names, [now_us, *args])
            except StoreUnavailable as error:
                if handed_in or not self._clock.refused(error.__cause__):
                    raise

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await self._beat()
            except Exception:
                # Whatever it was: a worker no longer counted makes the shares of all others larger.
                log.exception("limiter_heartbeat_failed")

    async def _beat(self) -> None:
        try:
            live, place = await self._run(
                self._heartbeat, [keys.workers()], [self._worker_id, keys.WORKER_LIFE_MS]
            )
        except (StoreUnavailable, DeadlineExceeded):
            pass  # the last count stands
        else:
            self._place = Place(place, max(self._least_workers, live))
        self._lanes.open_known()
        await asyncio.gather(*(lane.outage.check() for lane in self._lanes))

    def __repr__(self) -> str:
        mode = "local-share" if self.degraded else "fleet"
        return f"<Limiter {mode} workers={self.workers}>"


def _both(one: Decision, other: Decision) -> Decision:
    """Decisions on two parts of the same charges."""
    return Decision(
        allowed=one.allowed and other.allowed,
        states=one.states + other.states,
        degraded=one.degraded or other.degraded,
        decided_at_us=max(one.decided_at_us, other.decided_at_us),
    )
