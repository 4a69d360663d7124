"""Payments that no job can use: its intent ends, its key is free, and nothing waits for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from scripts.sandbox import documents, ledger
from scripts.sandbox.records import Chain, Record
from service.errors import PaymentOutcomeUnknown, PaymentRejected, PaymentUnavailable
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


async def test_unreadable_payment_keeps_only_its_own_job_waiting(
    make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other is paid, the breaker stays closed; it runs as soon as it can be read again."""
    home = await make_house()
    other = (await home.start(input_data={"text": "one."})).job.id
    odd = (await home.start(input_data={"text": "two."})).job.id
    shown = documents.payment

    def spoilt(record: Record, chain: Chain) -> dict[str, Any]:
        change = {"payByTime": "soon"} if record.terms.metadata == str(odd) else {}
        return shown(record, chain) | change

    with monkeypatch.context() as patch:
        patch.setattr(documents, "payment", spoilt)
        await home.pay(other)
        await home.pay(odd)
        assert (await home.job(other)).state is JobState.RUNNING
        await home.make_due(odd)
        for _ in range(3):
            with suppress(PaymentUnavailable):
                await home.reconciler.checks()
            await home.reconciler.changes()
        assert await home.services.gateway.check_key()
        assert (await home.job(odd)).state is JobState.AWAITING_PAYMENT
    await home.make_due(odd)
    await home.reconciler.checks()
    assert (await home.job(odd)).state is JobState.RUNNING


async def test_feed_that_shows_nothing_but_an_unreadable_payment_moves_on(
    home: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await home.start()
    await home.reconciler.changes()
    before = await mark(home)
    shown = documents.payment
    later = {"nextActionOrOnChainStateOrResultLastChangedAt": "2099-01-01T00:00:10.000Z"}

    def spoilt(record: Record, chain: Chain) -> dict[str, Any]:
        return shown(record, chain) | {"payByTime": "soon", **later}

    monkeypatch.setattr(documents, "payment", spoilt)
    await home.reconciler.changes()
    assert before < await mark(home) == "2099-01-01T00:00:05.000Z"


async def mark(home: House) -> str:
    [row] = await home.services.database.fetch("SELECT memory FROM loop_leases")
    return str(row["memory"]["last_update"])
