"""Payments as the jobs need them: asked for at most once, found again, followed, settled.

The payment service's create is not idempotent: each acceptance is one more payment. So a create is
sent again only where the one before certainly did nothing; where that is not certain, its list is
searched for our job id first, and where even that does not decide, PaymentOutcomeUnknown leaves the
question to the job loop. Every other error means: nothing was created.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

import structlog

from service.errors import (
    CircuitOpen,
    DeadlineExceeded,
    DependencyError,
    PaymentOutcomeUnknown,
    PaymentRejected,
    PaymentUnavailable,
)
from service.payments import listing
from service.payments.client import PaymentClient
from service.payments.failures import FINAL, NOTHING_DONE, AttemptFailed, Kind
from service.payments.guard import CircuitBreaker, Exchange, Guard
from service.payments.meter import Meter
from service.payments.models import (
    SOURCE_TYPES,
    V1,
    ChangePage,
    KeyStatus,
    Payment,
    PaymentOrder,
    Unreadable,
    Watermark,
)
from service.payments.retry import Call

if TYPE_CHECKING:
    from service.metrics import Metrics
    from service.settings import PaymentSettings

log = structlog.get_logger()

#: Looks at the list after an unanswered create; a slow service may take it in only after our
#: time-out, so the second look comes a little later.
SEARCHES = 2
SEARCH_PAUSE_S = 1.0


class PaymentGateway:
    def __init__(
        self,
        client: PaymentClient,
        breaker: CircuitBreaker,
        settings: PaymentSettings,
        *,
        metrics: Metrics | None = None,
    ) -> None:
        self._client = client
        self._meter = Meter(metrics)
        self._guard = Guard(breaker, settings, metered=self._meter.attempt)

    def __repr__(self) -> str:
        return f"<PaymentGateway {self._guard!r}>"

    @property
    def in_flight(self) -> int:
        return self._guard.bulkhead.in_use

    @property
    def most_in_flight(self) -> int:
        return self._guard.bulkhead.limit

    async def close(self) -> None:
        """Waits for what is still being reported to the breaker; the client is closed after it."""
        await self._guard.close()

    async def check_open(self) -> None:
        """Raises CircuitOpen, as a create would, where that is known already; asks for nothing."""
        if (wait_s := await self._guard.refusal_s()) > 0:
            with self._meter.call("create"):
                raise CircuitOpen(retry_after_s=wait_s)

    async def create(self, order: PaymentOrder) -> Payment:
        """Exactly one payment for this job.

        Raises PaymentOutcomeUnknown where one may exist; any other error is certain that none does.
        """
        with self._meter.call("create"):
            return await self._create(order)

    async def find(self, job_id: UUID, *, created_after: datetime) -> Payment | None:
        """The payment made for this job, or None when there certainly is none."""
        with self._meter.call("find"), _translated():
            return await self._find(None, str(job_id), created_after, SOURCE_TYPES)

    async def resolve(self, blockchain_identifier: str) -> Payment | None:
        """The payment as it stands now, or None where the service does not know it."""
        with self._meter.call("resolve"), _translated():
            call = self._guard.begin(blockchain_identifier)
            return await self._resolve(call, blockchain_identifier)

    async def changes(self, since: Watermark, limit: int = listing.PAGE) -> ChangePage:
        """What changed at or after ``since``, in order; ask again from ``next`` until complete."""

        async def read(
            source_type: str, mark: Watermark, rows: int
        ) -> tuple[Payment | Unreadable, ...]:
            page = await self._guard.repeat(
                self._guard.begin(),
                "changes",
                lambda timeout_s: self._client.changes(
                    source_type, since=mark, limit=rows, timeout_s=timeout_s
                ),
            )
            self._meter.seen(page)
            return page

        with self._meter.call("changes"), _translated():
            return await listing.changes(since, limit=limit, read=read)

    async def submit_result(self, blockchain_identifier: str, result_hash: str) -> Payment | None:
        """Ask for the hash to be put on chain; only ``resolve`` shows later that it was.

        None where the service finds no payment ready to take it, which is also its answer to a
        repeat: resolve and look.
        """
        with self._meter.call("submit"):
            return await self._submit(blockchain_identifier, result_hash)

    async def recover(self, payment: Payment) -> None:
        """Lift an error state, so that its action can be asked for again.

        Quiet where the payment has changed since it was read: it has to be looked at anew anyway.
        """
        with self._meter.call("recover"):
            await self._write_once(
                "recover",
                lambda timeout_s: self._client.recover(payment, timeout_s=timeout_s),
                quiet=frozenset({Kind.CONFLICT}),
            )

    async def authorize_refund(self, blockchain_identifier: str) -> None:
        """Give the purchaser the money back; raises PaymentRejected where its state forbids it."""
        with self._meter.call("refund"):
            await self._write_once(
                "authorize_refund",
                lambda timeout_s: self._client.authorize_refund(
                    blockchain_identifier, timeout_s=timeout_s
                ),
            )

    async def check_key(self) -> KeyStatus:
        """What the API key may do; PaymentMisconfigured where the service does not know it."""
        with self._meter.call("check"), _translated():
            return await self._guard.repeat(
                self._guard.begin(),
                "check_key",
                lambda timeout_s: self._client.key_status(timeout_s=timeout_s),
            )

    async def _create(self, order: PaymentOrder) -> Payment:
        call, asked_at = self._guard.begin(order.metadata), datetime.now(UTC)
        while True:
            try:
                return await self._guard.attempt(call, "create", self._created(order))
            except AttemptFailed as failure:
                if failure.kind in FINAL and failure.kind is not Kind.CONFLICT:
                    raise failure.translated() from failure
                if failure.kind not in NOTHING_DONE:
                    found = await self._look_for(call, order, asked_at, failure)
                    if found is not None:
                        return found
                if not await call.again(failure):
                    raise PaymentUnavailable(retry_after_s=failure.retry_after_s) from failure

    async def _submit(self, blockchain_identifier: str, result_hash: str) -> Payment | None:
        call = self._guard.begin(blockchain_identifier)
        while True:
            try:
                return await self._guard.attempt(
                    call,
                    "submit_result",
                    lambda timeout_s: self._client.submit_result(
                        blockchain_identifier, result_hash, timeout_s=timeout_s
                    ),
                )
            except AttemptFailed as failure:
                if failure.kind is Kind.NOT_FOUND:
                    return None
                if failure.kind in FINAL and failure.kind is not Kind.CONFLICT:
                    raise failure.translated() from failure
                if failure.kind not in NOTHING_DONE:
                    payment = await self._read_back(call, blockchain_identifier)
                    if payment is None or payment.has_result(result_hash):
                        return payment
                if not await call.again(failure):
                    raise PaymentUnavailable(retry_after_s=failure.retry_after_s) from failure

    def _created(self, order: PaymentOrder) -> Exchange[Payment]:
        async def exchange(timeout_s: float) -> Payment:
            payment = await self._client.create(order, timeout_s=timeout_s)
            if payment.metadata != order.metadata or not payment.payable:
                # Somebody else's answer, or half of one: what the list says counts.
                raise AttemptFailed(Kind.UNREADABLE, detail="not the payment asked for")
            return payment

        return exchange

    async def _look_for(
        self, call: Call, order: PaymentOrder, asked_at: datetime, failure: AttemptFailed
    ) -> Payment | None:
        """The payment an unclear create may have made; None where it certainly made none."""
        source_types = (order.payment_source_type or V1,)
        searches = 1 if failure.settled else SEARCHES
        for search in range(searches):
            if search and not await call.pause(SEARCH_PAUSE_S):
                break
            try:
                found = await self._find(call, order.metadata, asked_at, source_types)
            except (DependencyError, DeadlineExceeded) as error:
                raise PaymentOutcomeUnknown from error
            if found is not None:
                log.info("payment_found_again", job_id=order.metadata, after=failure.kind)
                if not found.payable:
                    raise PaymentRejected from failure
                return found
        if not failure.settled:
            raise PaymentOutcomeUnknown from failure
        return None

    async def _find(
        self,
        call: Call | None,
        metadata: str,
        created_after: datetime,
        source_types: tuple[str, ...],
    ) -> Payment | None:
        async def read(source_type: str, cursor: str | None) -> tuple[Payment | Unreadable, ...]:
            page = await self._guard.repeat(
                call.branch() if call else self._guard.begin(metadata),
                "find",
                lambda timeout_s: self._client.page(
                    source_type, cursor_id=cursor, limit=listing.PAGE, timeout_s=timeout_s
                ),
            )
            self._meter.seen(page)
            return page

        return await listing.find(
            metadata, created_after=created_after, read=read, source_types=source_types
        )

    async def _resolve(self, call: Call, blockchain_identifier: str) -> Payment | None:
        try:
            return await self._guard.repeat(
                call,
                "resolve",
                lambda timeout_s: self._client.resolve(blockchain_identifier, timeout_s=timeout_s),
            )
        except AttemptFailed as failure:
            if failure.kind is Kind.NOT_FOUND:
                return None
            raise

    async def _read_back(self, call: Call, blockchain_identifier: str) -> Payment | None:
        """What an unclear submission did; PaymentOutcomeUnknown where that cannot be read."""
        try:
            return await self._resolve(call.branch(), blockchain_identifier)
        except (DependencyError, DeadlineExceeded) as error:
            raise PaymentOutcomeUnknown from error

    async def _write_once(
        self, name: str, exchange: Exchange[None], *, quiet: frozenset[Kind] = frozenset()
    ) -> None:
        """Sent again only where the one before did nothing; the caller looks what came of it."""
        call = self._guard.begin()
        while True:
            try:
                return await self._guard.attempt(call, name, exchange)
            except AttemptFailed as failure:
                if failure.kind in quiet:
                    return None
                if failure.kind in FINAL:
                    raise failure.translated() from failure
                if failure.kind not in NOTHING_DONE:
                    raise PaymentOutcomeUnknown from failure
                if not await call.again(failure):
                    raise failure.translated() from failure


@contextmanager
def _translated() -> Iterator[None]:
    """For reads, of which it never matters whether they were received."""
    try:
        yield
    except AttemptFailed as failure:
        raise failure.translated() from failure
