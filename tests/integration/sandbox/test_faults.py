"""Each fault that can be ordered, with what it does to the books."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest

from scripts.sandbox import life
from tests.support.sandbox import Http, RunningSandbox, new_payment

CREATE = "POST /payment"


async def order(http: Http, **fault: Any) -> None:
    status, _ = await http.post("/control/faults", fault)
    assert status == 200


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
async def test_reset_cuts_the_connection(
    when: str, made: int, http: Http, sandbox: RunningSandbox
) -> None:
    await order(http, kind="reset", route=CREATE, when=when, times=1)
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.post("/payment", new_payment())
    assert len(sandbox.records) == made


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
async def test_hang_never_answers(
    when: str, made: int, http: Http, sandbox: RunningSandbox
) -> None:
    await order(http, kind="hang", route=CREATE, when=when, times=1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await http.post("/payment", new_payment())
    assert len(sandbox.records) == made


@pytest.mark.parametrize(("when", "made"), [("before", 0), ("after", 1)])
async def test_status_is_answered_in_the_envelope(
    when: str, made: int, http: Http, sandbox: RunningSandbox
) -> None:
    await order(http, kind="status", status=502, route=CREATE, when=when, times=1)
    status, answer = await http.post("/payment", new_payment())
    assert (status, answer["status"]) == (502, "error")
    assert len(sandbox.records) == made


async def test_bad_json_is_cut_short(http: Http) -> None:
    await order(http, kind="bad-json", times=1)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        await http.get("/health")


async def test_latency_is_added_and_the_answer_comes(http: Http) -> None:
    await order(http, kind="latency", seconds=0.5, times=1)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    assert (await http.get("/health"))[0] == 200
    assert loop.time() - began_s >= 0.5


async def test_faults_are_used_up_listed_and_cleared(http: Http, sandbox: RunningSandbox) -> None:
    await order(http, kind="status", times=2, route="GET /health")
    await order(http, kind="status", route=CREATE)
    assert [(await http.get("/health"))[0] for _ in range(3)] == [500, 500, 200]
    assert [(await http.post("/payment", new_payment()))[0] for _ in range(3)] == [500] * 3
    _, listed = await http.get("/control/faults")
    assert [fault["route"] for fault in listed] == [CREATE]
    sandbox.heal()
    assert (await http.post("/payment", new_payment()))[0] == 200


async def test_probability_spares_some(http: Http) -> None:
    await order(http, kind="status", probability=0.5)
    statuses = [(await http.get("/health"))[0] for _ in range(80)]
    assert {200, 500} == set(statuses)


async def test_stale_reads_lag_behind_the_chain(http: Http, sandbox: RunningSandbox) -> None:
    await http.post("/payment", new_payment())
    (record,) = sandbox.records
    sandbox.sandbox.ledger.advance(60_000)
    sandbox.happen(life.lock, record)
    await order(http, kind="stale", seconds=30)
    body = {"blockchainIdentifier": record.blockchain_identifier, "network": "Preprod"}
    _, answer = await http.post("/payment/resolve-blockchain-identifier", body)
    assert answer["data"]["onChainState"] is None
    _, listed = await http.get("/payment", network="Preprod")
    assert listed["data"]["Payments"][0]["onChainState"] is None
    sandbox.sandbox.ledger.advance(31_000)
    _, answer = await http.post("/payment/resolve-blockchain-identifier", body)
    assert answer["data"]["onChainState"] == "FundsLocked"


async def test_unknown_fault_is_refused(http: Http) -> None:
    assert (await http.post("/control/faults", {"kind": "earthquake"}))[0] == 400
    assert (await http.post("/control/faults", {"kind": "reset", "tims": 1}))[0] == 400


async def test_books_tell_every_payment_and_call(http: Http) -> None:
    await http.post("/payment", new_payment(metadata="a job"))
    await http.get("/payment", network="Preprod")
    _, books = await http.get("/control/books")
    assert [entry["metadata"] for entry in books["payments"]] == ["a job"]
    assert books["calls"] == {"POST /payment": 1, "GET /payment": 1}


async def test_diary_tells_when_each_call_came_and_was_answered(
    http: Http, sandbox: RunningSandbox
) -> None:
    sandbox.fault("latency", "POST /payment", seconds=0.05)
    await http.post("/payment", new_payment())
    await http.get("/payment", network="Preprod")
    _, diary = await http.get("/control/calls")
    first, second = diary["calls"]
    assert [first["route"], second["route"]] == ["POST /payment", "GET /payment"]
    assert first["came_s"] + 0.05 <= first["left_s"] <= second["came_s"] <= second["left_s"]
