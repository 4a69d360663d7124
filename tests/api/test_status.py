"""``/status`` under many requests: read together, kept when final, right at every moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from scripts.devservers import EmbeddedPostgres
from service.api import keys
from service.database import Database, Row
from tests.support.gate import TEXT, Gate, OpenGate, problem
from tests.support.servers import execute, migrate
from tests.support.waiting import until

LETTER = {
    "purpose": "cancellation",
    "details": "I have moved.",
    "sender": "Ada Moll",
    "recipient": "Fitness Nord",
}
#: What differs from one answer to the next, whatever it is about.
THEIR_OWN = ("X-Request-ID", "Date", "RateLimit")
OTHER = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The jobs of every query for statuses from now on."""
    made: list[Sequence[str]] = []
    really = Database.fetch

    async def counted(
        self: Database, statement: str, params: Mapping[str, Any] | None = None, **more: Any
    ) -> list[Row]:
        if getattr(statement, "name", "") == "read_statuses":
            made.append((params or {})["job_ids"])
        return await really(self, statement, params, **more)

    monkeypatch.setattr(Database, "fetch", counted)
    return made


async def start_free(gate: Gate, flow: str = "text-summary", **inputs: Any) -> str:
    sent = {"input_data": inputs or {"text": TEXT}}
    started = await (await gate.post(f"/{flow}+free/start_job", sent)).json()
    return str(started["id"])


async def finished(gate: Gate) -> str:
    """The path of a job's status that is final, and was asked for before."""
    job_id = await start_free(gate)
    await gate.status("text-summary", job_id, until="completed")
    path = f"/text-summary/status?job_id={job_id}"
    await gate.get(path)  # kept from now on, though its own message had dropped it
    return path


async def test_final_answer_is_kept_and_stays_the_same(
    gate: Gate, queries: list[Sequence[str]]
) -> None:
    path = await finished(gate)
    answers = [await gate.get(path) for _ in range(5)]
    assert len({await answer.text() for answer in answers}) == 1
    tags = {answer.headers["ETag"] for answer in answers}
    assert len(tags) == 1
    assert {answer.headers["Cache-Control"] for answer in answers} == {"private, no-cache"}
    queries.clear()
    assert (await gate.get(path, headers={"If-None-Match": tags.pop()})).status == 304
    assert (await gate.get(f"{path}&wait=25")).status == 200
    head = await gate.client.head(path)
    assert (head.status, head.headers["ETag"]) == (200, answers[0].headers["ETag"])
    assert head.headers["Content-Length"] == answers[0].headers["Content-Length"]
    assert queries == []


async def test_kept_answer_is_no_other_flows(gate: Gate) -> None:
    path = await finished(gate)
    strange = path.replace("/text-summary/", "/csv-profile/")
    await problem(await gate.get(strange), 404, "unknown-job")
    await problem(await gate.get(path.replace("text-summary", "nothing")), 404, "unknown-flow")
    await problem(await gate.get(f"/text-summary/status?job_id={OTHER}"), 404, "unknown-job")


async def test_both_ways_tell_the_same_of_final_and_open_jobs(
    open_gate: OpenGate, gate: Gate
) -> None:
    plain = await open_gate(
        database_url=gate.database_url, server={"fast_answers": False}, flows=None
    )
    open_path = f"/text-summary/status?job_id={(await gate.buy())['id']}"
    for path in (await finished(gate), open_path):
        answers = [await one.get(path) for one in (gate, plain, gate, plain)]
        assert len({await answer.text() for answer in answers}) == 1
        fields = [
            [(name, value) for name, value in answer.headers.items() if name not in THEIR_OWN]
            for answer in answers
        ]
        assert fields == [fields[0]] * 4


async def test_final_answers_outlast_the_database(
    open_gate: OpenGate, private_postgres: Callable[..., EmbeddedPostgres]
) -> None:
    server = private_postgres()
    migrate(server.url)
    gate = await open_gate(database_url=server.url)
    path = await finished(gate)
    before = await (await gate.get(path)).text()
    open_path = f"/text-summary/status?job_id={(await gate.buy())['id']}"
    server.kill()
    assert await (await gate.get(path)).text() == before
    # Nor does it matter that news of them may have been missed.
    gate.app[keys.STATUSES].gap()
    assert await (await gate.get(path)).text() == before
    assert await (await gate.get(f"{path}&wait=1")).text() == before
    body = await problem(await gate.get(open_path), 503, "database-unavailable")
    assert body["retryable"] is True


async def test_many_polls_at_once_share_their_reads(
    gate: Gate, queries: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/text-summary/status?job_id={(await gate.buy())['id']}"
    await gate.get(path)  # connections and flow are there
    slowly = Database.fetch

    async def slow(self: Database, *given: Any, **more: Any) -> list[Row]:
        await asyncio.sleep(0.25)  # so that they meet, however busy the machine
        return await slowly(self, *given, **more)

    monkeypatch.setattr(Database, "fetch", slow)
    queries.clear()
    answers = await asyncio.gather(*(gate.get(path) for _ in range(200)))
    assert {answer.status for answer in answers} == {200}
    assert len(queries) <= 50, len(queries)


async def test_whoever_has_answered_is_never_shown_the_question_again(gate: Gate) -> None:
    job_id = await start_free(gate, "tailored-letter", **LETTER)
    asked = await gate.status("tailored-letter", job_id, until="awaiting_input")
    path = f"/tailored-letter/status?job_id={job_id}"
    answered = asyncio.Event()
    late: list[str] = []

    async def poll() -> None:
        while len(late) < 40:
            sure = answered.is_set()
            seen = await (await gate.get(path)).json()
            if sure:
                late.append(seen["id"])

    pollers = [asyncio.create_task(poll()) for _ in range(8)]
    await asyncio.sleep(0.1)  # they are at it
    reply = await gate.post(
        "/tailored-letter/provide_input",
        {"job_id": job_id, "status_id": asked["id"], "input_data": {"reference": "4711"}},
    )
    answered.set()
    await asyncio.gather(*pollers)
    assert reply.status == 200, await reply.text()
    assert asked["id"] not in late


async def test_room_for_waiting_is_bounded_and_others_are_answered_at_once(
    open_gate: OpenGate,
) -> None:
    gate = await open_gate(server={"waiting_clients": 1})
    path = f"/text-summary/status?job_id={(await gate.buy())['id']}&wait=25"
    waiting = asyncio.create_task(gate.get(path))
    await until_waiting(gate, 1)
    async with asyncio.timeout(15):
        assert (await gate.get(path)).status == 200
    assert not waiting.done()
    waiting.cancel()


async def test_leaving_worker_answers_those_who_wait_and_lets_nobody_wait(gate: Gate) -> None:
    path = f"/text-summary/status?job_id={(await gate.buy())['id']}&wait=25"
    waiting = [asyncio.create_task(gate.get(path)) for _ in range(5)]
    await until_waiting(gate, 5)
    gate.app[keys.STATUSES].release()
    async with asyncio.timeout(15):
        answers = [*await asyncio.gather(*waiting), await gate.get(path)]
    assert {answer.status for answer in answers} == {200}


async def test_waiting_client_with_a_tag_is_told_not_modified_or_the_news(gate: Gate) -> None:
    job_id = (await gate.buy())["id"]
    path = f"/text-summary/status?job_id={job_id}"
    tag = {"If-None-Match": (await gate.get(path)).headers["ETag"]}
    same = await gate.get(f"{path}&wait=0.3", headers=tag)
    assert (same.status, same.headers["ETag"]) == (304, tag["If-None-Match"])
    waiting = asyncio.create_task(gate.get(f"{path}&wait=25", headers=tag))
    await until_waiting(gate, 1)
    gate.pay(job_id)
    news = await waiting
    assert news.status == 200
    assert (await news.json())["status"] != "awaiting_payment"


async def test_waiting_client_in_a_hurry_is_answered_in_its_time(gate: Gate) -> None:
    path = f"/text-summary/status?job_id={(await gate.buy())['id']}&wait=25"
    async with asyncio.timeout(15):
        answers = [
            await gate.get(path, headers={"X-Request-Timeout-Ms": ms}) for ms in ("1800", "900")
        ]
    assert [answer.status for answer in answers] == [200, 200]


async def test_waiting_counts_once_against_the_limit(open_gate: OpenGate) -> None:
    gate = await open_gate(limits={"status": {"rate": "10/day"}})
    path = f"/text-summary/status?job_id={(await gate.buy())['id']}"
    waited = await gate.get(f"{path}&wait=1.5")
    assert "r=9;" in waited.headers["RateLimit"]
    assert "r=8;" in (await gate.get(path)).headers["RateLimit"]


async def until_waiting(gate: Gate, number: int) -> None:
    await until(lambda: gate.app[keys.METRICS].status.waiting == number)


async def test_what_is_done_by_hand_to_a_finished_job_shows(gate: Gate) -> None:
    path = await finished(gate)
    job_id = path.rpartition("=")[2]
    execute(gate.database_url, f"UPDATE jobs SET result = 'mended' WHERE id = '{job_id}'")
    async with asyncio.timeout(15):
        while (await (await gate.get(path)).json())["result"] != "mended":
            await asyncio.sleep(0.01)
    execute(gate.database_url, f"DELETE FROM jobs WHERE id = '{job_id}'")
    async with asyncio.timeout(15):
        while (await gate.get(path)).status != 404:
            await asyncio.sleep(0.01)


async def test_nothing_is_kept_over_a_gap_in_the_messages(
    gate: Gate, queries: list[Sequence[str]]
) -> None:
    path = await finished(gate)
    queries.clear()
    gate.app[keys.STATUSES].gap()
    assert (await gate.get(path)).status == 200
    assert len(queries) == 1


async def test_answers_are_counted_by_where_they_came_from(gate: Gate) -> None:
    path = await finished(gate)
    await gate.get(path)
    await gate.get(f"/text-summary/status?job_id={(await gate.buy())['id']}&wait=0.3")
    page = await (await gate.get("/metrics")).text()
    for line in (
        'tollgate_status_answers_total{source="cache"}',
        'tollgate_status_answers_total{source="database"}',
        'tollgate_status_waits_total{outcome="unchanged"} 1.0',
        "tollgate_status_waiting 0.0",
        "tollgate_status_queries_total",
    ):
        assert line in page
