"""Health is polled in the background, survives broken checks, and says when it knows nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from service.errors import StoreUnavailable
from service.health import ComponentState, Health, Mode
from tests.support.waiting import until

PERIOD_S = 0.02
AWAY = {"redis": Mode.REDIS_AWAY, "postgres": Mode.POSTGRES_AWAY}


class Dependency:
    """A check that says what it is told to, and counts."""

    def __init__(self, state: ComponentState | Exception | None = None) -> None:
        self.answer = state or ComponentState("ok")
        self.asked = 0
        self.hangs = False

    async def __call__(self) -> ComponentState:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def watching(
    *, timeout_s: float = PERIOD_S, **checks: Callable[[], Awaitable[ComponentState]]
) -> AsyncIterator[Health]:
    health = Health(period_s=PERIOD_S, timeout_s=timeout_s)
    for name, check in checks.items():
        health.register(name, check, critical=True, away=AWAY.get(name, Mode.UNCHECKED))
    await health.start()
    try:
        yield health
    finally:
        await health.stop()


async def test_well_when_everything_is_well_right_after_start() -> None:
    async with watching(redis=Dependency(), postgres=Dependency()) as health:
        snapshot = health.snapshot()
    assert snapshot.status == "ok"
    assert snapshot.modes == ()
    assert set(snapshot.components) == {"redis", "postgres"}
    latency_ms = snapshot.components["redis"].latency_ms
    assert latency_ms is not None
    assert latency_ms >= 0


async def test_reading_asks_nobody() -> None:
    dependency = Dependency()
    health = Health(period_s=1000.0)
    health.register("redis", dependency, critical=True)
    await health.start()
    for _ in range(100):
        health.snapshot()
    assert dependency.asked == 1
    await health.stop()


async def test_polling_goes_on_and_sees_loss_and_recovery() -> None:
    dependency = Dependency()
    async with watching(redis=dependency) as health:
        dependency.answer = StoreUnavailable()
        await until(lambda: health.snapshot().status == "degraded")
        lost = health.snapshot()
        dependency.answer = ComponentState("ok", latency_ms=7.0)
        await until(lambda: health.snapshot().status == "ok")
        assert health.snapshot().components["redis"].latency_ms == 7.0
        assert health.snapshot().taken_at > lost.taken_at
    assert lost.components["redis"].state == "down"
    assert lost.components["redis"].detail == {"error": "redis-unavailable"}
    assert lost.modes == ("redis_away",)


async def test_names_of_modes() -> None:
    open_circuit = Dependency(ComponentState("degraded", mode=Mode.PAYMENT_OPEN))
    slow = Dependency(ComponentState("degraded"))
    async with watching(payment=open_circuit, postgres=slow) as health:
        assert health.snapshot().modes == ("payment_open", "postgres_away")


async def test_hanging_check_is_given_up_and_holds_up_nobody() -> None:
    hanging, quick = Dependency(), Dependency()
    hanging.hangs = True
    async with watching(postgres=hanging, redis=quick) as health:
        await until(lambda: quick.asked >= 5 and hanging.asked >= 2)
        components = health.snapshot().components
        assert components["postgres"].detail == {"error": "check-timed-out"}
        assert components["redis"].state == "ok"


async def test_check_that_resists_cancellation_makes_its_component_stale_only() -> None:
    release = asyncio.Event()

    async def stubborn() -> ComponentState:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue
        return ComponentState("ok")

    quick = Dependency()
    async with watching(postgres=stubborn, redis=quick) as health:
        try:
            await until(lambda: "stale_s" in health.snapshot().components["postgres"].detail)
            assert health.snapshot().components["redis"].state == "ok"
            assert health.snapshot().status == "degraded"
        finally:
            release.set()


async def test_broken_check_is_logged_with_its_stack_and_polled_again() -> None:
    broken = Dependency(KeyError("a bug"))
    with capture_logs() as logs:
        async with watching(redis=broken) as health:
            await until(lambda: broken.asked >= 3)
            assert health.snapshot().components["redis"].detail == {"error": "KeyError"}
    assert any(line["event"] == "health_check_broken" and line["exc_info"] for line in logs)


async def test_old_findings_stop_counting_as_well() -> None:
    async with watching(redis=Dependency()) as health:
        assert health.snapshot().status == "ok"
    await until(lambda: health.snapshot().status == "degraded")
    component = health.snapshot().components["redis"]
    assert component.state == "degraded"
    assert component.mode is Mode.UNCHECKED
    assert component.detail["stale_s"] > 0


async def test_before_the_first_answer_nothing_counts_as_well() -> None:
    health = Health()
    health.register("redis", Dependency(), critical=True)
    assert health.snapshot().status == "degraded"
    assert health.snapshot().components["redis"].detail == {"error": "not-asked-yet"}


async def test_changes_are_logged_once_and_by_weight() -> None:
    dependency, spare = Dependency(), Dependency(ComponentState("down"))
    health = Health(period_s=PERIOD_S)
    health.register("redis", dependency, critical=True)
    health.register("spare", spare, critical=False)
    with capture_logs() as logs:
        await health.start()
        dependency.answer = ComponentState("down")
        await until(lambda: health.snapshot().components["redis"].state == "down")
        seen = dependency.asked
        await until(lambda: dependency.asked >= seen + 3)
        dependency.answer = ComponentState("ok")
        await until(lambda: health.snapshot().components["redis"].state == "ok")
        await health.stop()
    told = [(x["component"], x["state"], x["log_level"]) for x in logs]
    assert sorted(told) == [
        ("redis", "down", "error"),
        ("redis", "ok", "info"),
        ("spare", "down", "warning"),
    ]


async def test_names_are_taken_once_and_before_the_start() -> None:
    async with watching(redis=Dependency()) as health:
        with pytest.raises(RuntimeError):
            health.register("late", Dependency(), critical=True)
        with pytest.raises(ValueError, match="redis"):
            health.register("redis", Dependency(), critical=True)


async def test_stopping_leaves_no_task() -> None:
    hanging = Dependency()
    hanging.hangs = True
    async with watching(redis=Dependency(), postgres=hanging, timeout_s=PERIOD_S):
        pass
    assert asyncio.all_tasks() == {asyncio.current_task()}
