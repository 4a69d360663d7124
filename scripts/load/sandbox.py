"""What a run does to the sandbox: purchasers pay by themselves, and faults come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from scripts.chaos.exchange import exchange
from scripts.load.asking.alarm import now_s
from scripts.load.record import Event
from scripts.load.scenario import Fault, Scenario
from scripts.running import Running

#: What the sandbox does where nobody says otherwise.
_PAYS_AFTER_S = 1.0


class Sandbox:
    def __init__(self, service: Running) -> None:
        self._port = int((service.payment_url or "").rpartition(":")[2])

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> None:
        status, answer = exchange(self._port, method, f"/control/{path}", body)
        if status != 200:
            raise OSError(f"the sandbox answered {method} {path} with {status}: {answer}")


@contextlib.asynccontextmanager
async def prepared(scenario: Scenario, service: Running | None) -> AsyncIterator[Sandbox | None]:
    """Nobody but the purchasers pays while the block lasts; then all is as before."""
    if service is None or service.payment_url is None or not (scenario.buys or scenario.faults):
        yield None
        return
    sandbox = Sandbox(service)
    if scenario.buys:
        await asyncio.to_thread(sandbox.call, "POST", "pace", {"pay_after_s": None})
    try:
        yield sandbox
    finally:
        if scenario.buys:
            await asyncio.to_thread(sandbox.call, "POST", "pace", {"pay_after_s": _PAYS_AFTER_S})
        if scenario.faults:
            await asyncio.to_thread(sandbox.call, "DELETE", "faults")


async def order(
    scenario: Scenario, sandbox: Sandbox | None, began_s: float, seconds: float
) -> list[Event]:
    """Each fault at its time; over when the last one is."""
    if sandbox is None:
        return []
    events = []
    for fault in sorted(scenario.faults, key=lambda fault: fault.begins):
        await _until(began_s + fault.begins * seconds)
        body = fault.model_dump(exclude={"begins", "ends"})
        await asyncio.to_thread(sandbox.call, "POST", "faults", body)
        events.append(_event(now_s() - began_s, f"The payment service {_words(fault)}"))
        await _until(began_s + fault.ends * seconds)
        await asyncio.to_thread(sandbox.call, "DELETE", "faults")
        events.append(_event(now_s() - began_s, "The payment service is itself again"))
    return events


async def _until(at_s: float) -> None:
    await asyncio.sleep(max(0.0, at_s - now_s()))


def _event(at: float, text: str) -> Event:
    return Event(at=at, kind="fleet", text=text)


def _words(fault: Fault) -> str:
    return {
        "latency": f"takes {fault.seconds:g} s longer",
        "hang": "does not answer",
        "reset": "cuts connections",
        "status": f"answers {fault.status}",
        "bad-json": "answers what is no JSON",
    }[fault.kind] + f" ({fault.route})"
