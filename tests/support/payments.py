"""Around the payment gateway: a breaker that writes down what it hears, orders, settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from service.breaker.models import Outcome, Permit
from service.errors import CircuitOpen
from service.payments.gateway import PaymentGateway
from service.payments.models import PaymentOrder
from service.settings import PaymentSettings
from tests.support.sandbox import AGENT, INPUT_HASH, PURCHASER

GatewayFactory = Callable[..., Awaitable[PaymentGateway]]

CREATE = "POST /payment"
LIST = "GET /payment"


class RecordingBreaker:
    """Counts permits out and in; opens on demand."""

    def __init__(self) -> None:
        self.granted = 0
        self.outcomes: list[Outcome] = []
        self.pauses: list[float] = []
        self.open = False
        #: Awaited in every acquire, for tests that cancel there.
        self.before_acquire: Callable[[], Awaitable[None]] | None = None
        self.after_report: Callable[[], Awaitable[None]] | None = None

    async def acquire(self) -> Permit:
        if self.before_acquire is not None:
            await self.before_acquire()
        if self.open:
            raise CircuitOpen(retry_after_s=30.0)
        self.granted += 1
        return Permit(generation=1, token=str(self.granted), mode="normal")

    async def refusal_s(self) -> float:
        return 30.0 if self.open else 0.0

    async def report(
        self, permit: Permit, outcome: Outcome, *, detail: str = "", request: str = ""
    ) -> None:
        await asyncio.sleep(0)  # a report is a round trip: it can be cut off
        self.outcomes.append(outcome)
        if self.after_report is not None:
            await self.after_report()

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)


def payment_settings(url: str, **changes: Any) -> PaymentSettings:
    """Patient, so that a busy machine is not mistaken for a fault."""
    values = {"url": url, "api_key": "sandbox", "attempt_timeout": 8.0, "call_timeout": 40.0}
    return PaymentSettings(**(values | changes))  # type: ignore[arg-type]


def new_order(job_id: UUID | None = None, **changes: Any) -> PaymentOrder:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "job_id": job_id or uuid4(),
        "agent_identifier": AGENT,
        "identifier_from_purchaser": PURCHASER,
        "input_hash": INPUT_HASH,
        "pay_by": now + timedelta(minutes=20),
        "submit_by": now + timedelta(hours=1),
    }
    return PaymentOrder(**(values | changes))
