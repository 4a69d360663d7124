"""The whole of a worker without its web application, beside a sandbox: for tests of the job loops.

Nothing turns by itself here: a test calls the ticks it wants, in the order it wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from scripts.sandbox.control import ACTIONS
from scripts.sandbox.faults import Fault
from scripts.sandbox.keys import Sandbox
from service.flows.definition import FlowDefinition
from service.jobs.models import Job, StartCommand, Started
from service.jobs.reconciler import Reconciler, worker_name
from service.jobs.runs import Runs
from service.jobs.settlement import Settler
from service.runners.runners import Runners
from service.settings import Settings, load
from service.wiring import Services, connect
from tests.support.sandbox import running_sandbox

AGENT = "ab" * 28 + "0001"
IDENTIFIER = "aabbccddeeff0011"
API_KEY = "sandbox-key"

TEXT = "Bees make honey. Bees live in hives. A hive has one queen. Rain falls in spring."


def flow_definition(slug: str = "echo", **changes: Any) -> FlowDefinition:
    """A flow of a paid and a free variant, by default run by the built-in summary."""
    document: dict[str, Any] = {
        "slug": slug,
        "name": f"The {slug} flow",
        "version": "1",
        "input_schema": {"input_data": [{"id": "text", "type": "textarea", "name": "Text"}]},
        "variants": {"standard": {"agent_identifier": AGENT}, "free": {"free": True}},
        "default_variant": "standard",
        "runner": {"kind": "builtin", "target": "text-summary"},
        "demo": {"input": {"text": TEXT}, "output": "Bees make honey."},
    }
    return FlowDefinition.model_validate({**document, **changes})


@dataclass(slots=True)
class House:
    """One worker's parts and the sandbox it buys from."""

    settings: Settings
    services: Services
    sandbox: Sandbox
    reconciler: Reconciler

    async def start(self, reference: str = "echo", **changes: Any) -> Started:
        flow, variant = await self.services.catalog.get(reference)
        command: dict[str, Any] = {
            "flow": flow,
            "variant": variant,
            "input_data": {"text": TEXT},
            "identifier_from_purchaser": None if variant.free else IDENTIFIER,
            "idempotency_key": None,
            "principal": "192.0.2.1",
        }
        return await self.services.lifecycle.start(StartCommand(**{**command, **changes}))

    async def job(self, job_id: UUID) -> Job:
        return await self.services.lifecycle.get(job_id)

    def another_reconciler(self) -> Reconciler:
        """As another worker of the fleet has it."""
        return _reconciler(self.settings, self.services)

    def settler(self) -> Settler:
        return Settler(
            self.services.repository, self.services.gateway, metrics=self.services.metrics
        )

    def runs(self, runners: Runners, *, draining: Callable[[], bool] = lambda: False) -> Runs:
        """One more worker's runs, sharing everything but its owner's name."""
        return Runs(
            self.services.repository,
            self.services.catalog.by_uid,
            runners,
            settings=self.settings.jobs,
            metrics=self.services.metrics,
            owner=worker_name(),
            draining=draining,
        )

    async def run_all(self) -> None:
        """Claim every job that is due, and see it to its outcome."""
        runs = self.services.runs
        while True:
            # One held before the look may have kept it from claiming another, and ended meanwhile.
            held = runs.held
            if not (await runs.tick() or runs.held or held):
                return
            await asyncio.sleep(0.01)

    async def pay(self, job_id: UUID) -> None:
        """The purchaser's funds arrive, and we learn of it."""
        self.act(job_id, "lock")
        await self.reconciler.changes()

    def act(self, job_id: UUID, action: str) -> None:
        record = self.sandbox.ledger.get(str(job_id))
        assert record is not None
        at_ms = self.sandbox.ledger.now_ms()
        self.sandbox.ledger.change(record, lambda r: ACTIONS[action](r, at_ms))

    def fault(self, route: str, kind: str, **more: Any) -> None:
        self.sandbox.faults.add(Fault.model_validate({"route": route, "kind": kind, **more}))

    def payments_of(self, job_id: UUID) -> list[Any]:
        return [r for r in self.sandbox.ledger.oldest() if r.terms.metadata == str(job_id)]

    async def make_due(self, job_id: UUID) -> None:
        """What the loops would wait for is now."""
        await self.sql("UPDATE jobs SET due_at = now() WHERE id = %(id)s", id=job_id)

    async def sql(self, statement: str, **params: Any) -> None:
        await self.services.database.execute(statement, params)


def _reconciler(settings: Settings, services: Services) -> Reconciler:
    return Reconciler(
        services.repository,
        services.gateway,
        settings=settings.jobs,
        payment=settings.payment,
        metrics=services.metrics,
        runs=NobodyToWake(),
        owner=worker_name(),
    )


class NobodyToWake:
    def wake(self) -> None:
        """Tests tick by hand."""


@asynccontextmanager
async def house(
    database_url: str, redis_url: str, *flows: FlowDefinition, **sections: dict[str, Any]
) -> AsyncIterator[House]:
    """A worker's parts on these servers, with these flows for sale (by default one)."""
    async with running_sandbox(api_key=API_KEY, confirm_after_s=0.02) as sandbox:
        settings = house_settings(database_url, redis_url, sandbox.url, **sections)
        async with connect(settings, loops=False) as services:
            await services.catalog.store(flows or (flow_definition(),))
            yield House(settings, services, sandbox.sandbox, _reconciler(settings, services))


def house_settings(
    database_url: str, redis_url: str, sandbox_url: str, **sections: dict[str, Any]
) -> Settings:
    """Small pools, short pauses; generous limits where a busy machine is no failure."""
    changes: dict[str, dict[str, Any]] = {
        "database": {
            "url": database_url,
            "pool_min": 1,
            "pool_max": 5,
            "acquire_timeout": 10.0,
            "quick_timeout": 15.0,
            "write_timeout": 15.0,
            "batch_timeout": 20.0,
        },
        "redis": {"url": redis_url, "timeout": 5.0, "limiter_timeout": 5.0},
        "payment": {"url": sandbox_url, "api_key": API_KEY, "poll_interval": 0.2},
        "jobs": {"poll_interval": 0.1},
        "overload": {"least_requests": 1000},
    }
    for section, fields in sections.items():
        changes[section] = {**changes.get(section, {}), **fields}
    whole = load().settings
    return Settings.model_validate(
        {
            name: type(section).model_validate({**dict(iter(section)), **changes.get(name, {})})
            for name, section in whole
        }
    )
