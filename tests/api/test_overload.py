"""A worker with more to do than it can, as its clients see it; on both ways of a request."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

import pytest

from service.api import keys
from service.overload.held import HOLD_S
from service.overload.models import Priority
from service.overload.overload import Overload
from tests.support.gate import IDENTIFIER, TEXT, Gate, OpenGate

PURCHASE = {"identifier_from_purchaser": IDENTIFIER, "input_data": {"text": TEXT}}
LIMITS = {"flows": {"rate": "1/hour", "burst": 5}, "demo": {"rate": "1/hour", "burst": 1}}
USUAL = {"least_requests": 16}
TIMES = re.compile(rb"(?<=Date: )[^\r]*|(?<=Retry-After: )\d+")


class Busy:
    """A running application whose worker has a limit of 100, and as many in hand as we say."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.overload: Overload = gate.app[keys.OVERLOAD]
        self.overload._queue_delay.stop()  # from here on we say how long is waited
        self._in_hand = 0
        self._hold(400)
        for _ in range(20):
            self.overload.sample(1.0)
            if self.overload._limiting:
                break
            self.overload._look_s = 0.0
        self._hold(0)

    def _hold(self, number: int) -> None:
        for _ in range(number - self._in_hand):
            assert self.overload.enter(Priority.READ, "ip:127.0.0.1") is None
        for _ in range(self._in_hand - number):
            self.overload.leave(Priority.READ)
        self._in_hand = number

    def fill(self, part: float) -> None:
        """So much of the limit is in hand."""
        limit = self.overload.status().limit
        assert limit is not None
        self._hold(round(limit * part))

    async def release(self) -> None:
        """What the samples would do."""
        while True:
            self.overload._held.release()
            await asyncio.sleep(0.02)


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
async def busy(request: pytest.FixtureRequest, open_gate: OpenGate) -> AsyncIterator[Busy]:
    gate = await open_gate(limits=LIMITS, server={"fast_answers": request.param}, overload=USUAL)
    busy = Busy(gate)
    releasing = asyncio.create_task(busy.release())
    yield busy
    releasing.cancel()


async def test_the_answer_says_what_is_so_and_when_to_come_again(busy: Busy) -> None:
    busy.fill(0.6)
    answer = await busy.gate.post("/text-summary/start_job", PURCHASE)  # which checks the contract
    assert answer.status == 503
    problem = await answer.json()
    assert problem["type"] == "urn:tollgate:problem:overloaded"
    assert problem["retryable"] is True
    assert problem["instance"] == f"urn:request:{answer.headers['X-Request-Id']}"
    assert 1 <= int(answer.headers["Retry-After"]) <= 10
    assert answer.headers["Cache-Control"] == "no-store"
    assert "RateLimit" not in answer.headers


async def test_sales_go_first_then_the_others_and_probes_never(busy: Busy) -> None:
    served = ("/livez", "/readyz", "/health", "/flows", "/nowhere")
    for part, refused in ((0.6, set()), (0.8, {"/nowhere"}), (2.0, {"/nowhere", "/flows"})):
        busy.fill(part)
        sale = await busy.gate.post("/text-summary/start_job", PURCHASE)
        assert sale.status == 503
        answers = {path: (await busy.gate.client.get(path)).status for path in served}
        assert {path for path, status in answers.items() if status == 503} == refused


async def test_who_is_turned_away_is_charged_nowhere(busy: Busy) -> None:
    busy.fill(2.0)
    for _ in range(8):
        assert (await busy.gate.get("/flows")).status == 503
    busy.fill(0.0)
    statuses = [(await busy.gate.get("/flows")).status for _ in range(6)]
    assert statuses == [200] * 5 + [429]


async def test_nothing_is_left_in_hand_however_a_request_ends(busy: Busy) -> None:
    before = busy.overload.status().in_flight
    for path in ("/flows", "/flows/none", "/nowhere", "/demo?x", "/text-summary/status?job_id=1"):
        await busy.gate.client.get(path)
    await busy.gate.post("/text-summary/start_job", {"input_data": 1})
    await asyncio.gather(*(busy.gate.client.get("/flows") for _ in range(20)))
    assert busy.overload.status().in_flight == before


async def test_who_is_known_to_be_over_a_limit_is_told_that(busy: Busy) -> None:
    statuses = [(await busy.gate.get("/text-summary/demo")).status for _ in range(2)]
    assert statuses == [200, 429]
    busy.fill(2.0)
    assert (await busy.gate.get("/text-summary/demo")).status == 429


async def test_a_refusal_is_not_quicker_than_service(busy: Busy) -> None:
    busy.fill(2.0)
    began_s = time.monotonic()
    assert (await busy.gate.get("/flows")).status == 503
    assert time.monotonic() - began_s >= HOLD_S * 0.9


async def test_it_is_counted_by_kind(busy: Busy) -> None:
    busy.fill(0.6)
    await busy.gate.post("/text-summary/start_job", PURCHASE)
    text = await (await busy.gate.get("/metrics")).text()
    assert 'tollgate_overload_shed_total{priority="sale",reason="worker"} 1.0\n' in text
    assert re.search(r'^tollgate_overload_limit\{of="worker"\} [1-9]', text, re.MULTILINE)
    answered = r'^aiohttp_responses_total\{.*"/\{flow\}/start_job".*status_code="503"\} 1\.0$'
    assert re.search(answered, text, re.MULTILINE)


@pytest.mark.parametrize(("method", "version"), [("GET", "1.1"), ("HEAD", "1.1"), ("GET", "1.0")])
async def test_both_ways_send_the_same(open_gate: OpenGate, method: str, version: str) -> None:
    received = []
    for fast in (True, False):
        gate = await open_gate(server={"fast_answers": fast}, overload=USUAL)
        busy = Busy(gate)
        busy.fill(2.0)
        releasing = asyncio.create_task(busy.release())
        reader, writer = await asyncio.open_connection(gate.client.host, gate.client.port)
        writer.write(
            f"{method} /flows HTTP/{version}\r\nHost: x\r\nX-Request-Id: r-1\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        raw = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        releasing.cancel()
        received.append(TIMES.sub(b"#", raw))
    assert received[0] == received[1]
    assert received[0].startswith(b"HTTP/1.1 503 " if version == "1.1" else b"HTTP/1.0 503 ")
