"""Payments that no job can use: its intent ends, its key is free, and nothing waits for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from scripts.sandbox import documents, ledger
from service.errors import PaymentOutcomeUnknown, PaymentRejected
from service.jobs.inspection import Inspection
from service.jobs.models import JobState
from tests.support.house import House

MakeHouse = Callable[..., Awaitable[House]]
CREATE, LIST = "POST /payment", "GET /payment"


async def left_unknown(home: House) -> UUID:
    """An intent whose payment was made, and could not be looked for."""
    home.fault(CREATE, "reset", when="after", times=1)
    home.fault(LIST, "reset")
    with pytest.raises(PaymentOutcomeUnknown):
        await home.start(idempotency_key="unclear")
    home.sandbox.faults.clear()
    [row] = await home.services.database.fetch("SELECT id FROM jobs WHERE state = 'creating'")
    job_id: UUID = row["id"]
    await home.make_due(job_id)
    return job_id


async def ended(home: House, job_id: UUID) -> str | None:
    dossier = await Inspection(home.services.database).dossier(job_id)
    assert dossier is not None
    return dossier.failure_code if dossier.state is JobState.FAILED else None


@pytest.fixture
async def home(make_house: MakeHouse) -> House:
    return await make_house(breaker={"failure_threshold": 100})


async def test_payment_that_nobody_can_pay_ends_the_intent_it_is_found_for(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await left_unknown(home)
    with monkeypatch.context() as patch:
        patch.setattr(documents, "SELLER_VKEY", "")
        await home.reconciler.changes()  # the feed passes over it
        await home.reconciler.checks()
    assert await ended(home, job_id) == "payment-rejected"
    assert (await home.start(idempotency_key="unclear")).job.state is JobState.AWAITING_PAYMENT


async def test_payment_of_another_job_is_refused_at_once(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "seal", lambda _: "ff" * 100)
    first = await home.start(input_data={"text": "one."})
    with pytest.raises(PaymentRejected):
        await home.start(input_data={"text": "two."})
    rows = await home.services.database.fetch("SELECT id, state FROM jobs")
    states = {row["id"]: row["state"] for row in rows}
    assert states.pop(first.job.id) == "awaiting_payment"
    assert list(states.values()) == ["failed"]


async def test_payment_of_another_job_ends_the_intent_it_is_found_for(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "seal", lambda _: "ff" * 100)
    await home.start(input_data={"text": "one."})
    job_id = await left_unknown(home)
    await home.reconciler.checks()
    assert await ended(home, job_id) == "payment-rejected"
