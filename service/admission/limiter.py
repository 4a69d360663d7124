"""Admission for the whole fleet: one script call decides all limits of a request.

Guarantee: over every interval of time T, what all workers together admit under one policy for one
subject is at most burst + rate × T, as long as one Redis keeps its data. While Redis is away each
worker grants its share (``fallback``), labelled ``degraded``.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

import structlog

from service.admission.fallback import LocalShare
from service.admission.models import Charge, Decision, limit_state
from service.errors import DeadlineExceeded, StoreUnavailable
from service.store import keys
from service.store.client import Store

log = structlog.get_logger()

#: Several heartbeats fit into one life, so that one lost does not make a worker dead.
HEARTBEAT_S = keys.WORKER_LIFE_MS / 1000 / 5
_NOTHING_TO_CHECK = Decision(allowed=True, states=())


class Limiter:
    """``take`` decides; ``start`` and ``stop`` are this worker's presence in the fleet.

    ``workers_hint`` is how many workers there are at least: the divisor of the local share until
    heartbeats have counted more.
    """

    def __init__(self, store: Store, *, workers_hint: int) -> None:
        self._take = store.script(__package__, "take", keys=None)
        self._heartbeat = store.script(__package__, "heartbeat", keys=1)
        self._least_workers = max(1, workers_hint)
        self._share = LocalShare(workers=self._least_workers)
        self._worker_id = secrets.token_hex(8)
        self._beating: asyncio.Task[None] | None = None

    @property
    def degraded(self) -> bool:
        """Was the last decision taken without Redis?"""
        return self._share.active

    @property
    def workers(self) -> int:
        """How many workers the last heartbeat knew of (at least the hint)."""
        return self._share.workers

    async def start(self) -> None:
        """Announce this worker and keep announcing it."""
        await self._beat()
        self._beating = asyncio.create_task(self._keep_beating(), name="limiter-heartbeat")

    async def stop(self) -> None:
        """Leave the fleet, so that the others' shares grow at once."""
        if self._beating is None:
            return
        self._beating.cancel()
        await asyncio.gather(self._beating, return_exceptions=True)
        self._beating = None
        try:
            await self._heartbeat([keys.workers()], [self._worker_id, 0])
        except (StoreUnavailable, DeadlineExceeded):
            log.info("worker_left_unannounced", worker=self._worker_id)

    async def take(self, charges: Sequence[Charge]) -> Decision:
        """Charge all or none. Without Redis the policies' ``on_outage`` decides.

        Raises StoreUnavailable under a ``closed`` policy, DeadlineExceeded when the request's
        time is up.
        """
        if not charges:
            return _NOTHING_TO_CHECK
        buckets = [
            keys.bucket(charge.policy.name, str(charge.subject), shadow=charge.policy.shadow)
            for charge in charges
        ]
        if len(set(buckets)) < len(buckets):
            # The script reads before it writes: the second charge would undo the first.
            raise ValueError("the same bucket is charged twice in one decision")
        args: list[str | int | bytes] = []
        for charge in charges:
            policy = charge.policy
            args += (policy.emission_interval_us, policy.burst, charge.cost, int(policy.shadow))
        try:
            now_us, allowed, *buckets_after = await self._take(buckets, args)
        except StoreUnavailable:
            if not self._share.active:
                log.warning("limiter_degraded", workers=self._share.workers)
            return self._share.take(charges)
        if self._share.active:
            log.info("limiter_recovered")
            self._share.reset()
        states = tuple(
            limit_state(charge, charge.policy.bucket, tat_us, now_us, fits=bool(fits))
            for charge, tat_us, fits in zip(
                charges, buckets_after[::2], buckets_after[1::2], strict=True
            )
        )
        return Decision(allowed=bool(allowed), states=states, decided_at_us=now_us)

    async def _keep_beating(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            await self._beat()

    async def _beat(self) -> None:
        try:
            live = await self._heartbeat([keys.workers()], [self._worker_id, keys.WORKER_LIFE_MS])
        except (StoreUnavailable, DeadlineExceeded):
            return  # the store has said so; the last count stands
        self._share.divide_by(max(self._least_workers, live))

    def __repr__(self) -> str:
        mode = "local-share" if self.degraded else "fleet"
        return f"<Limiter {mode} workers={self.workers}>"
