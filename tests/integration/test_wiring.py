"""The parts as they are put together: what one tells the others."""

from __future__ import annotations

from prometheus_client import generate_latest

from service.wiring import take_census
from tests.support.house import house


async def test_gauges_show_the_open_jobs_and_what_waits_for_the_chain(
    database_url: str, redis_url: str
) -> None:
    async with house(database_url, redis_url) as home:
        waiting = (await home.start()).job
        done = (await home.start(input_data={"text": "Another text to be summarised."})).job
        await home.pay(done.id)
        await home.run_all()
        await home.sql("UPDATE jobs SET updated_at = now() - interval '1 hour'")
        await take_census(home.services)
        shown = generate_latest(home.services.metrics.registry).decode()
        assert waiting.id != done.id
        assert 'tollgate_jobs_open{state="awaiting_payment"} 1.0' in shown
        assert 'tollgate_jobs_open{state="running"} 0.0' in shown
        tightest = home.services.metrics.registry.get_sample_value(
            "tollgate_settlement_tightest_seconds"
        )
        assert tightest is not None
        assert 0 < tightest < 3600


async def test_breaker_that_opens_is_counted(database_url: str, redis_url: str) -> None:
    async with house(database_url, redis_url) as home:
        await home.services.breaker.force("open", 60, by="a test", reason="to see it counted")
        counted = home.services.metrics.registry.get_sample_value(
            "tollgate_breaker_transitions_total",
            {"breaker": "payment", "to": "open", "cause": "forced"},
        )
        assert counted == 1
