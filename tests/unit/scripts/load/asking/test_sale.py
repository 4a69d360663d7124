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


STARTED = (200, {"id": "job-1", "input_hash": input_hash(None, GIVEN)})
AWAY = (503, {"type": "urn:tollgate:problem:overloaded"})
DONE = status("completed", result="done")


@asynccontextmanager
async def seller(
    answers: Sequence[tuple[int, dict[str, Any]]],
) -> AsyncIterator[tuple[int, list[str]]]:
    """Gives one answer after another, the last one for ever; port, and what was asked."""
    asked: list[str] = []
    coming: Iterator[tuple[int, dict[str, Any]]] = iter(answers)
    last = answers[-1]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.decode().split(" ", 2)
            if method == "POST":
                await reader.readexactly(int(head.partition(b"Content-Length: ")[2].split()[0]))
            asked.append(path)
            code, document = next(coming, last)
            body = json.dumps(document).encode()
            writer.write(
                f"HTTP/1.1 {code} x\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
            )

    async with listening(serve) as port:
        yield port, asked


async def buy(port: int, *, patience_s: float = 5) -> Bought:
    """One purchase of a free run."""
    group = {
        "name": "purchasers",
        "connections": 2,
        "schedule": {"kind": "constant", "rate": 10},
        "purchase": {
            "flow": "x+free", "input_data": GIVEN, "paid": False, "patience_s": patience_s
        },
    }  # fmt: skip
    made = scenario.parse(
        {"name": "x", "title": "x", "purpose": "x", "duration_s": 1, "groups": [group]}, "x.toml"
    )
    plan = Plan(
        scenario=made, host=LOOPBACK, port=port, seconds=0.05, seed=1, factor=1, number=0,
        processes=1, by="source", payment_url=None, network="Preprod", jobs=[],
    )  # fmt: skip
    (bought,) = (await Generator(plan).run(now_s())).bought
    return bought


async def test_a_purchase_is_followed_to_its_result_which_is_read_twice() -> None:
    async with seller([STARTED, status("running"), AWAY, DONE]) as (port, asked):
        bought = await buy(port)

    assert (bought.job, bought.status, bought.results) == ("job-1", "completed", ["done"])
    assert bought.findings == []
    assert bought.took_us is not None
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

    assert (bought.job, bought.status) == (None, None)
    assert len(asked) == 1


async def test_patience_ends_and_the_last_status_is_what_is_known() -> None:
    async with seller([STARTED, status("running")]) as (port, _):
        bought = await buy(port, patience_s=0.3)

    assert (bought.status, bought.took_us) == ("running", None)
