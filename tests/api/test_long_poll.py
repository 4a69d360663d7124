"""``wait=``: a status request that is held until there is something new to tell."""

from __future__ import annotations

import asyncio
import time

from tests.support.gate import TEXT, Gate, OpenGate


async def test_waiting_returns_as_soon_as_the_status_changes(gate: Gate) -> None:
    job_id = (await gate.buy())["id"]
    began_s = time.monotonic()
    waiting = asyncio.create_task(gate.get(f"/text-summary/status?job_id={job_id}&wait=25"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    gate.pay(job_id)
    body = await (await waiting).json()
    assert body["status"] != "awaiting_payment"
    assert time.monotonic() - began_s < 20


async def test_waiting_ends_unchanged_with_its_time(gate: Gate) -> None:
    job_id = (await gate.buy())["id"]
    answer = await gate.get(f"/text-summary/status?job_id={job_id}&wait=0.3")
    assert (await answer.json())["status"] == "awaiting_payment"


async def test_waiting_for_a_change_already_missed_returns_at_once(gate: Gate) -> None:
    started = await gate.buy()
    path = f"/text-summary/status?job_id={started['id']}&wait=25"
    async with asyncio.timeout(15):
        by_id = await gate.get(f"{path}&status_id=00000000-0000-0000-0000-000000000000")
        by_tag = await gate.get(path, headers={"If-None-Match": '"older"'})
    assert by_id.status == by_tag.status == 200


async def test_waiting_never_outlives_the_request(open_gate: OpenGate) -> None:
    short = dict.fromkeys(
        ("acquire_timeout", "connect_timeout", "quick_timeout", "write_timeout"), 2.0
    )
    payment = {"call_timeout": 2.5, "attempt_timeout": 2.4, "connect_timeout": 2.0}
    gate = await open_gate(
        server={"request_timeout": 3.0},
        database=short,
        redis={"timeout": 2.0, "limiter_timeout": 2.0},
        payment=payment,
    )
    job_id = (await gate.buy())["id"]
    answer = await gate.get(f"/text-summary/status?job_id={job_id}&wait=25")
    assert answer.status == 200


async def test_finished_job_is_not_waited_for(gate: Gate) -> None:
    started = await gate.post("/text-summary+free/start_job", {"input_data": {"text": TEXT}})
    job_id = (await started.json())["id"]
    await gate.status("text-summary", job_id, until="completed")
    async with asyncio.timeout(15):
        answer = await gate.get(f"/text-summary/status?job_id={job_id}&wait=25")
    assert answer.status == 200


async def test_first_look_at_an_open_question_is_answered_at_once(gate: Gate) -> None:
    letter = {"purpose": "cancellation", "sender": "A", "recipient": "B", "details": "Moved away."}
    sold = await gate.post("/tailored-letter+free/start_job", {"input_data": letter})
    job_id = (await sold.json())["id"]
    await gate.status("tailored-letter", job_id, until="awaiting_input")
    async with asyncio.timeout(15):
        answer = await gate.get(f"/tailored-letter/status?job_id={job_id}&wait=25")
    assert (await answer.json())["status"] == "awaiting_input"
