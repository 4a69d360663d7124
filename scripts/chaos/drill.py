"""The drill: purchasers buy while the killer kills; then all must end, with the books in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from scripts.chaos import killer, records
from scripts.chaos.audit import Books, Violation, audit
from scripts.chaos.fleet import Fleet, Shape, fleet
from scripts.chaos.measure import Figures, figures
from scripts.chaos.purchaser import Offer, Purchasers
from scripts.chaos.runner import SlowRunner, slow_runner
from scripts.chaos.tally import Tally

#: The payment service takes its time before and after the deed, so that kills fall into calls.
LATENCIES = (
    ("POST /payment", "before", 0.3),
    ("POST /payment", "after", 0.3),
    ("POST /payment/submit-result", "before", 0.2),
    ("POST /payment/submit-result", "after", 0.2),
)
SETTINGS = {
    "TOLLGATE_PAYMENT__ATTEMPT_TIMEOUT": "3",
    "TOLLGATE_PAYMENT__CALL_TIMEOUT": "5",
    "TOLLGATE_SERVER__REQUEST_TIMEOUT": "6",
    # An intent without a payment is given up once no call for it can be under way.
    "TOLLGATE_JOBS__INTENT_GRACE": "6",
    # A job that loses its worker again and again is given up, for it may be the killer; not here.
    "TOLLGATE_JOBS__LOST_RUNS": "100",
    # Time for the refusals that are measured, not more.
    "TOLLGATE_BREAKER__RECOVERY_SECONDS": "4",
}
AGENT = "ab" * 28 + "0001"
TEXT = "Bees make honey. Bees live in hives. A hive has one queen. Rain falls in spring."
LETTER = {
    "purpose": "cancellation",
    "details": "I have moved to a town where you have no studio.",
    "sender": "Ada Moll",
    "recipient": "Fitness Nord",
}
OFFERS = (
    Offer("text-summary", {"text": TEXT}),
    Offer("text-summary+free", {"text": TEXT}, free=True),
    Offer("tailored-letter", LETTER, answer={"reference": "4711"}),
    Offer("slow", {"text": TEXT}),
)


@dataclass(frozen=True, slots=True)
class Plan:
    kills: int
    seed: int
    purchasers: int = 24
    #: After the last kill, until everything must have come to its end.
    patience_s: float = 300.0
    #: Have the job loops look at once at what they would look at later.
    hasten: bool = False
    #: Measure afterwards what a failing payment service costs.
    measure: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    plan: Plan
    tally: Tally
    books: Books
    violations: tuple[Violation, ...]
    #: How often runs of the slow flow were begun again because their worker had died.
    runs_repeated: int
    killing_s: float
    ending_s: float
    figures: Figures | None

    @property
    def in_order(self) -> bool:
        return not self.violations and not self.tally.unexpected


async def drill(home: Path, plan: Plan) -> Findings:
    """The whole of it, on servers of its own below ``home``."""
    async with slow_runner() as runner:
        made = fleet(home, Shape(SETTINGS))
        there = await asyncio.to_thread(made.__enter__)
        try:
            await asyncio.to_thread(_prepare, there, home, runner)
            return await _drill(there, runner, plan)
        finally:
            await asyncio.to_thread(made.__exit__, None, None, None)


def _prepare(fleet: Fleet, home: Path, runner: SlowRunner) -> None:
    flows = home / "flows.json"
    flows.write_text(json.dumps({"flows": [_slow_flow(runner.url)]}))
    fleet.tollgate("flows", "import", str(flows))
    for route, when, seconds in LATENCIES:
        fleet.order_fault(route, "latency", when=when, seconds=seconds, probability=0.5)


async def _drill(fleet: Fleet, runner: SlowRunner, plan: Plan) -> Findings:
    tally, rng = Tally(), random.Random(plan.seed)  # noqa: S311 (no secret)
    urls = [replica.url for replica in fleet.replicas]
    began_s = time.monotonic()
    async with Purchasers(urls, tally, rng) as purchasers:
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            hastening = group.create_task(_hasten(fleet, plan))
            buying = [
                group.create_task(_keep_buying(purchasers, over, number))
                for number in range(plan.purchasers)
            ]
            await killer.Killer(fleet, tally, rng).run(killer.plan(plan.kills, rng))
            over.set()
            killed_s = time.monotonic()
            await _end(fleet, buying, plan.patience_s)
            hastening.cancel()
        ended_s = time.monotonic()
        await purchasers.look_again()
        told = [purchase.told() for purchase in purchasers.purchases]
    books = await asyncio.to_thread(records.books, fleet, told)
    found = await figures(fleet) if plan.measure else None
    return Findings(
        plan=plan,
        tally=tally,
        books=books,
        violations=audit(books),
        runs_repeated=sum(count - 1 for count in runner.starts.values()),
        killing_s=killed_s - began_s,
        ending_s=ended_s - killed_s,
        figures=found,
    )


async def _keep_buying(purchasers: Purchasers, over: asyncio.Event, number: int) -> None:
    bought = number  # so that they do not all buy the same
    while not over.is_set():
        await purchasers.buy(OFFERS[bought % len(OFFERS)])
        bought += 1


async def _end(fleet: Fleet, buying: Sequence[asyncio.Task[None]], patience_s: float) -> None:
    """Everything bought has come to its end; or patience is over, and the audit will say so."""
    deadline_s = time.monotonic() + patience_s
    await asyncio.wait(buying, timeout=patience_s)
    for task in buying:
        task.cancel()
    while time.monotonic() < deadline_s:
        if not await asyncio.to_thread(records.open_jobs, fleet):
            return
        await asyncio.sleep(0.3)


async def _hasten(fleet: Fleet, plan: Plan) -> None:
    while plan.hasten:
        await asyncio.sleep(0.5)
        with contextlib.suppress(psycopg2.OperationalError):  # it may just have been killed
            await asyncio.to_thread(records.hasten, fleet)


def _slow_flow(url: str) -> dict[str, object]:
    return {
        "slug": "slow",
        "name": "Takes its time",
        "version": "1",
        "input_schema": {"input_data": [{"id": "text", "type": "text", "name": "Text"}]},
        "variants": {"standard": {"agent_identifier": AGENT}},
        "default_variant": "standard",
        "runner": {"kind": "http", "target": url},
        "demo": {"input": {"text": TEXT}, "output": "What came of it."},
    }
