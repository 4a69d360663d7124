"""What a failing payment service costs: others while it hangs, paid sales once the circuit is open.

Run after a drill, on its fleet. Figures of one machine and moment; the tests assert only ratios.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from scripts.chaos.fleet import Fleet

FLOW = "text-summary"
INPUT = {"text": "Bees make honey. Bees live in hives."}
OPEN = ":payment-circuit-open"
PAIRS = 5
#: Within one attempt at the hanging service.
MOMENT_S = 2.0
ASKERS, HANGING = 8, 24
#: Well within the circuit's recovery time.
REFUSALS = 200
#: So that the askers are no load of their own.
PAUSE_S = 0.005


@dataclass(frozen=True, slots=True)
class Figures:
    """Latencies in milliseconds; ratios are of a moment with the service hanging to one without."""

    refused_median_ms: float
    refused_p99_ms: float
    status_median_ms: float
    calls_while_open: int
    hanging_median_ratio: float
    hanging_p99_ratio: float


async def figures(fleet: Fleet) -> Figures:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = _Client(session, fleet)
        job = await client.sold()
        pairs = [await client.pair(job) for _ in range(PAIRS)]
        calls, refused = await client.refusals()
        status = [await client.status(job) for _ in range(REFUSALS)]
    return Figures(
        refused_median_ms=statistics.median(refused),
        refused_p99_ms=_p99(refused),
        status_median_ms=statistics.median(status),
        calls_while_open=calls,
        hanging_median_ratio=statistics.median(
            statistics.median(hanging) / statistics.median(calm) for calm, hanging in pairs
        ),
        hanging_p99_ratio=statistics.median(_p99(h) / _p99(c) for c, h in pairs),
    )


class _Client:
    def __init__(self, session: aiohttp.ClientSession, fleet: Fleet) -> None:
        self._session = session
        self._fleet = fleet
        self._urls = [replica.url for replica in fleet.replicas]

    async def sold(self) -> str:
        """A job, once the circuit is closed."""
        self._fleet.clear_faults()
        while True:
            status, body, _ = await self.buy()
            if status == 200:
                return str(body["id"])
            await asyncio.sleep(0.2)  # the circuit is still open

    async def pair(self, job: str) -> tuple[list[float], list[float]]:
        """Latencies of a calm moment, and of one in which the payment service hangs."""
        await self.sold()
        calm = await self._asked(job)
        self._fleet.order_fault("POST /payment", "hang")
        sales = [asyncio.create_task(self.buy()) for _ in range(HANGING)]
        hanging = await self._asked(job)
        await asyncio.gather(*sales)
        return calm, hanging

    async def refusals(self) -> tuple[int, list[float]]:
        """Calls the payment service saw while the circuit was open, and how long refusals took."""
        await self.sold()
        self._fleet.order_fault("*", "status", status=500)
        taken: list[float] = []
        before = 0
        while len(taken) < REFUSALS:
            _, body, took_ms = await self.buy()
            if body.get("type", "").endswith(OPEN):
                taken.append(took_ms)
            else:  # not open yet, or open no longer
                taken.clear()
                before = len(self._fleet.calls())
        return len(self._fleet.calls()) - before, taken

    async def buy(self) -> tuple[int, dict[str, str], float]:
        body = {"identifier_from_purchaser": secrets.token_hex(8), "input_data": INPUT}
        began_s = time.perf_counter()
        url = f"{self._urls[0]}/{FLOW}/start_job"
        async with self._session.post(url, json=body) as response:
            told = await response.json(content_type=None)
            return response.status, told, (time.perf_counter() - began_s) * 1000

    async def status(self, job: str, number: int = 0) -> float:
        began_s = time.perf_counter()
        url = f"{self._urls[number % len(self._urls)]}/{FLOW}/status"
        async with self._session.get(url, params={"job_id": job}) as response:
            await response.read()
        return (time.perf_counter() - began_s) * 1000

    async def _asked(self, job: str) -> list[float]:
        taken: list[float] = []
        until_s = time.monotonic() + MOMENT_S

        async def ask(number: int) -> None:
            while time.monotonic() < until_s:
                taken.append(await self.status(job, number))
                await asyncio.sleep(PAUSE_S)

        await asyncio.gather(*(ask(number) for number in range(ASKERS)))
        return taken


def _p99(taken: Sequence[float]) -> float:
    return sorted(taken)[len(taken) * 99 // 100]
