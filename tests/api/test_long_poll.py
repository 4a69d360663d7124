"""``wait=``: a status request that is held until there is something new to tell."""

from __future__ import annotations

import asyncio
import time

import pytest

from service.api import keys
from service.jobs import waiting
from tests.support.gate import TEXT, Gate, OpenGate
from tests.support.servers import execute
from tests.support.waiting import until


async def test_waiting_returns_as_soon_as_the_status_changes(gate: Gate) -> None:
    job_id = (await gate.buy())["id"]
    began_s = time.monotonic()
    waiting = asyncio.create_task(gate.get(f"/text-summary/status?job_id={job_id}&wait=25"))
    await asyncio.sleep(0.2)  # it waits by now; were it not to, it would be done
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


async def test_the_database_tells_of_the_change_and_nobody_looks(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 3600.0)
    job_id = (await gate.buy())["id"]
    asked = asyncio.create_task(gate.get(f"/text-summary/status?job_id={job_id}&wait=25"))
    await until_one_waits(gate)
    gate.pay(job_id)
    async with asyncio.timeout(15):
        assert (await (await asked).json())["status"] != "awaiting_payment"


async def test_a_change_told_while_nobody_could_hear_it_is_found(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_S", 3600.0)
    job_id = (await gate.buy())["id"]
    asked = asyncio.create_task(gate.get(f"/text-summary/status?job_id={job_id}&wait=25"))
    await until_one_waits(gate)
    listener = "application_name LIKE '%listener' AND datname = current_database()"
    execute(
        gate.database_url,
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {listener};"
        "UPDATE jobs SET state = 'failed', failure = 'By hand.', status_id = gen_random_uuid(),"
        f" seq = seq + 1 WHERE id = '{job_id}'",
    )
    async with asyncio.timeout(15):
        assert (await (await asked).json())["message"] == "By hand."


async def until_one_waits(gate: Gate) -> None:
    await until(lambda: gate.app[keys.METRICS].status.waiting)
