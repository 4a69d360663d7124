"""Purchasers in this process, against a tiny seller that answers what it was told to."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from scripts.load import scenario
from scripts.load.asking.alarm import now_s
from scripts.load.asking.generator import Generator
from scripts.load.asking.sale import faults_of_terms
from scripts.load.plan import Bought, Plan
from scripts.loopback import LOOPBACK
from scripts.mip004 import input_hash
from tests.support.listening import listening

GIVEN = {"text": "Bees make honey.", "sentences": 2}
NAME = "ab" * 8
LATER_MS = int(time.time() * 1000) + 3_600_000
TERMS: dict[str, Any] = {
    "id": "job-1",
    "input_hash": input_hash(NAME, GIVEN),
    "identifierFromPurchaser": NAME,
    "payByTime": LATER_MS,
    "submitResultTime": LATER_MS + 1,
    "unlockTime": LATER_MS + 2,
    "externalDisputeUnlockTime": LATER_MS + 3,
}


def test_terms_as_they_should_be_are_not_objected_to() -> None:
    assert faults_of_terms(NAME, GIVEN, TERMS) == []


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"input_hash": input_hash(NAME, {**GIVEN, "sentences": 3})}, "hash"),
        ({"input_hash": input_hash(None, GIVEN)}, "hash"),
        ({"identifierFromPurchaser": "cd" * 8}, "hash"),
        ({"payByTime": 1_700_000_000_000}, "time"),
        ({"payByTime": LATER_MS + 2, "unlockTime": LATER_MS + 1}, "time"),
        ({"submitResultTime": LATER_MS + 7}, "time"),
        ({"unlockTime": str(LATER_MS + 2)}, "time"),
        ({"externalDisputeUnlockTime": None}, "time"),
    ],
)
def test_wrong_terms_are_found_and_told_with_their_job(change: dict[str, Any], kind: str) -> None:
    ((found, text),) = faults_of_terms(NAME, GIVEN, {**TERMS, **change})

    assert found == kind
    assert "job-1" in text


def test_a_free_run_has_no_times_to_pay_in() -> None:
    free = {"id": "job-1", "input_hash": input_hash(None, GIVEN)}

    assert faults_of_terms(None, GIVEN, free) == []


def status(name: str, **more: str) -> tuple[int, dict[str, Any]]:
    return 200, {"id": name, "job_id": "job-1", "status": name, **more}


#: What an answer to start_job holds beside the terms.
OFFER = {**TERMS, "blockchainIdentifier": "b", "agentIdentifier": "a", "sellerVKey": "v"}
STARTED = (200, {"id": "job-1", "input_hash": input_hash(None, GIVEN)})
AWAY = (503, {"type": "urn:tollgate:problem:overloaded"})
DONE = status("completed", result="done")
#: As HTTP has it, too; no service of ours says it so.
AT_NO_TIME = "Fri, 31 Dec 1999 23:59:59 GMT"
PAID = (200, {"status": "success"})


@asynccontextmanager
async def seller(
    answers: Sequence[tuple[int, Any]], **wrong: Any
) -> AsyncIterator[tuple[int, list[str]]]:
    """Gives one answer after another, the last one for ever; port, and what was asked.

    To start_job of a paid flow an offer, but for what is ``wrong`` in it.
    """
    asked: list[str] = []
    offer: dict[str, Any] = {}
    coming: Iterator[tuple[int, Any]] = iter(answers)
    last = answers[-1]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal offer
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.decode().split(" ", 2)
            sent: dict[str, Any] = {}
            document: Any
            if method == "POST":
                length = int(head.partition(b"Content-Length: ")[2].split()[0])
                sent = json.loads(await reader.readexactly(length))
            asked.append(path)
            if name := sent.get("identifier_from_purchaser"):
                own = {"input_hash": input_hash(name, GIVEN), "identifierFromPurchaser": name}
                offer = {**OFFER, **own, **wrong}
                code, document = 200, offer
            elif path.endswith("/pay") and not _is_of(sent, offer):
                code, document = 400, {}
            else:
                code, document = next(coming, last)
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            writer.write(
                f"HTTP/1.1 {code} x\r\nRetry-After: {AT_NO_TIME}\r\n"
                f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )

    async with listening(serve) as port:
        yield port, asked


def _is_of(order: dict[str, Any], offer: dict[str, Any]) -> bool:
    """Whether a payment is for this offer, field by field; a wallet has times as texts."""
    renamed = {"input_hash": "inputHash", "sellerVKey": "sellerVkey"}
    return all(
        order.get(renamed.get(name, name)) == (str(value) if isinstance(value, int) else value)
        for name, value in offer.items()
        if name != "id"
    )


async def buy(
    port: int, *, patience_s: float = 5, paid: bool = False, follow: bool = True
) -> Bought:
    """One purchase, of a free run unless it is ``paid``: by a wallet at the same port."""
    group = {
        "name": "purchasers",
        "connections": 2,
        "schedule": {"kind": "constant", "rate": 10},
        "purchase": {
            "flow": "x+free", "input_data": GIVEN, "paid": paid, "patience_s": patience_s,
            "follow": follow,
        },
    }  # fmt: skip
    made = scenario.parse(
        {"name": "x", "title": "x", "purpose": "x", "duration_s": 1, "groups": [group]}, "x.toml"
    )
    plan = Plan(
        scenario=made, host=LOOPBACK, port=port, seconds=0.05, seed=1, factor=1, number=0,
        processes=1, by="source", payment_url=f"http://{LOOPBACK}:{port}", network="Preprod",
        jobs=[],
    )  # fmt: skip
    (bought,) = (await Generator(plan).run(now_s())).bought
    return bought


async def test_a_purchase_is_followed_to_its_result_which_is_read_twice() -> None:
    async with seller([STARTED, status("running"), AWAY, DONE]) as (port, asked):
        bought = await buy(port)

    assert (bought.job, bought.status, bought.results) == ("job-1", "completed", ["done"])
    assert bought.findings == []
    assert bought.took_us is not None
    assert bought.took_us > 0
    assert [path.partition("?")[0] for path in asked] == [
        "/x+free/start_job",
        *["/x+free/status"] * 4,
    ]
    assert "status_id=running" in asked[2]


async def test_a_result_that_is_another_one_when_asked_again_is_found() -> None:
    async with seller([STARTED, DONE, status("completed", result="other")]) as (port, _):
        bought = await buy(port)

    assert [kind for kind, _ in bought.findings] == ["result"]
    assert bought.results == ["done", "other"]


async def test_who_is_not_sold_anything_has_no_job_and_asks_no_further() -> None:
    async with seller([AWAY]) as (port, asked):
        bought = await buy(port)

    assert (bought.job, bought.status, bought.findings) == (None, None, [])
    assert len(asked) == 1


async def test_a_run_that_fails_is_over_and_shows_no_result() -> None:
    async with seller([STARTED, status("failed")]) as (port, asked):
        bought = await buy(port)

    assert (bought.status, bought.results, bought.findings) == ("failed", [], [])
    assert len(asked) == 2


async def test_who_only_orders_does_not_follow() -> None:
    async with seller([STARTED]) as (port, asked):
        bought = await buy(port, follow=False)

    assert (bought.job, bought.status) == ("job-1", None)
    assert len(asked) == 1


async def test_who_is_turned_away_does_not_ask_again_at_once() -> None:
    async with seller([STARTED, AWAY]) as (port, asked):
        await buy(port, patience_s=0.5)

    assert len(asked) <= 5


async def test_patience_ends_and_the_last_status_is_what_is_known() -> None:
    async with seller([STARTED, status("running")]) as (port, _):
        bought = await buy(port, patience_s=0.3)

    assert (bought.status, bought.took_us) == ("running", None)


async def test_who_is_offered_a_sale_pays_it_and_follows_it() -> None:
    async with seller([PAID, status("running"), DONE]) as (port, asked):
        bought = await buy(port, paid=True)

    assert (bought.paid, bought.status, bought.findings) == (True, "completed", [])
    assert [path.partition("?")[0] for path in asked[:3]] == [
        "/x+free/start_job",
        "/control/wallet/pay",
        "/x+free/status",
    ]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"input_hash": "another"}, "hash"),
        ({"identifierFromPurchaser": "cd" * 8}, "hash"),
        ({"payByTime": LATER_MS + 9}, "time"),
    ],
)
async def test_wrong_terms_of_an_offer_are_found_by_who_buys(
    wrong: dict[str, Any], kind: str
) -> None:
    async with seller([PAID, DONE], **wrong) as (port, _):
        bought = await buy(port, paid=True)

    assert [found for found, _ in bought.findings] == [kind]


async def test_what_the_wallet_refuses_is_not_paid_and_said() -> None:
    async with seller([(409, {})]) as (port, asked):
        bought = await buy(port, paid=True)

    assert (bought.job, bought.paid, bought.status) == ("job-1", False, None)
    assert bought.findings == [("unpaid", "job job-1: the wallet answered 409")]
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ([(200, b"<html>")], "not JSON"),
        ([(200, [])], "not a JSON object"),
        ([(200, {"input_hash": "x"})], "without id"),
        ([STARTED, (200, {"id": "1"})], "without status"),
        ([STARTED, status("completed")], "without result"),
    ],
)
async def test_an_answer_that_can_not_be_used_is_found(
    answers: list[tuple[int, Any]], says: str
) -> None:
    async with seller(answers) as (port, _):
        bought = await buy(port)

    ((kind, text),) = bought.findings
    assert (kind, bought.took_us) == ("form", None)
    assert says in text


async def test_an_offer_that_lacks_what_a_payment_needs_is_found() -> None:
    async with seller([PAID], blockchainIdentifier=None) as (port, asked):
        bought = await buy(port, paid=True)

    assert bought.findings == [("form", "job job-1: an answer without blockchainIdentifier")]
    assert (bought.job, bought.paid, len(asked)) == ("job-1", False, 1)


async def test_a_job_that_is_completed_and_then_is_not_is_found() -> None:
    async with seller([STARTED, DONE, status("running")]) as (port, _):
        bought = await buy(port)

    assert bought.findings == [("result", "job job-1: completed, then running")]
