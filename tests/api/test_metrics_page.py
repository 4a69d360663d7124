"""What the page of a running application shows: all that is declared, and each request's end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import aiohttp
import psycopg2
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from service.api import keys
from service.app import create_app
from tests.support.collectors import declared
from tests.support.gate import OpenGate
from tests.support.house import house_settings
from tests.support.waiting import until

WAYS = pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
STATUS = "/{flow}/status"
Asks = TestClient[web.Request, web.Application] | aiohttp.ClientSession


async def families(client: Asks) -> Mapping[str, Metric]:
    answer = await client.get("/metrics")
    return {f.name: f for f in text_string_to_metric_families(await answer.text())}


async def value(client: Asks, name: str, **labels: str) -> float:
    found = await families(client)
    return sum(
        sample.value
        for family in found.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


@WAYS
async def test_page_shows_what_is_declared_with_the_labels_it_should_have(
    open_gate: OpenGate, fast: bool
) -> None:
    gate = await open_gate(server={"fast_answers": fast})
    await gate.get("/flows/text-summary")
    async with asyncio.timeout(20):
        while "tollgate_jobs_open" not in (shown := await families(gate.client)):
            await asyncio.sleep(0.1)
    for each in declared():
        family = shown.get(each.name.removesuffix("_total"))
        assert family is not None or each.name == "tollgate_settlement_backlog", each.name
        assert family is None or family.type == each.kind
        for sample in family.samples if family else ():
            if not sample.name.endswith("_created"):
                assert set(sample.labels) == set(each.series()[sample.name])


@WAYS
async def test_request_that_was_given_up_as_its_client_left_has_ended(
    open_gate: OpenGate, fast: bool
) -> None:
    gate = await open_gate(server={"fast_answers": fast})  # aiohttp's test server cancels
    job = (await gate.buy())["id"]
    await leaves_while_it_waits(gate.app, str(gate.client.make_url("/")), job, wait_s=25)
    await ended(gate.client, "499")
    assert await value(gate.client, "tollgate_request_seconds_count", answer="4xx") >= 1


@WAYS
async def test_client_that_left_before_its_answer_was_made_is_counted(
    open_gate: OpenGate, redis_url: str, fast: bool
) -> None:
    gate = await open_gate()
    job = (await gate.buy())["id"]
    app = await create_app(
        house_settings(
            gate.database_url, redis_url, "http://127.0.0.1:9", server={"fast_answers": fast}
        )
    )
    runner = web.AppRunner(app, handler_cancellation=False, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        server = runner.server
        assert server is not None
        with contextlib.closing(psycopg2.connect(gate.database_url)) as connection:
            connection.cursor().execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
            async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
                url = f"/text-summary/status?job_id={job}"
                asking = asyncio.create_task(session.get(url))
                async with asyncio.timeout(20):
                    await until(lambda: server.requests_count)
                    asking.cancel()
                    await until(lambda: not server.connections)
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            await ended(session, "")
            assert not await value(session, "aiohttp_responses_total", status_code="499")
    finally:
        await runner.cleanup()


async def ended(session: Asks, status: str) -> None:
    """All that was asked about the job has ended, one of it so, and nobody to hear it."""
    await until(lambda: value(session, "tollgate_requests_abandoned_total", route=STATUS))
    ways = {"path_template": STATUS}
    assert await value(session, "tollgate_requests_abandoned_total", route=STATUS) == 1
    if status:
        assert await value(session, "aiohttp_responses_total", status_code=status, **ways) == 1
    assert await value(session, "aiohttp_responses_total", **ways) == await value(
        session, "aiohttp_requests_total", **ways
    )
    assert await value(session, "aiohttp_requests_in_progress", **ways) == 0


async def leaves_while_it_waits(app: web.Application, base: str, job: str, *, wait_s: int) -> None:
    url = URL(base) / "text-summary/status"
    async with aiohttp.ClientSession() as session:
        # An answer at once tells which status there is, and so what to wait for.
        async with session.get(url.with_query(job_id=job)) as known:
            tag = known.headers["ETag"]
        waiting = asyncio.create_task(
            session.get(url.with_query(job_id=job, wait=wait_s), headers={"If-None-Match": tag})
        )
        await until(lambda: app[keys.METRICS].status.waiting)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
