"""Every transition is told once: in the history, to subscribers, and to this process's observer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
import redis.asyncio
from redis.crc import key_slot

from service.breaker.breaker import Breaker
from service.breaker.fleet import EVENTS_KEPT
from service.breaker.models import Event, Outcome, Transition
from service.errors import StoreUnavailable
from service.settings import BreakerSettings
from service.store import keys
from service.store.client import Store
from tests.support.breaker import Clocks
from tests.support.servers import Servers

SETTINGS = BreakerSettings(failure_threshold=3, recovery_seconds=30, probe_lease_seconds=9)
KEY = keys.breaker("payment")


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def heard() -> list[Transition]:
    return []


@pytest.fixture
def fleet(store: Store, clocks: Clocks, heard: list[Transition]) -> list[Breaker]:
    return [
        Breaker("payment", SETTINGS, store, clock=clocks.local, on_transition=heard.append)
        for _ in range(3)
    ]


async def fail(breaker: Breaker) -> None:
    await breaker.report(await breaker.acquire(), Outcome.FAIL, detail="timed-out")


async def live_through(fleet: list[Breaker], store: Store, clocks: Clocks) -> None:
    """Opens, fails a probe, and closes; ``clocks`` only for the workers."""
    for breaker in fleet:
        await fail(breaker)
    for outcome in (Outcome.FAIL, Outcome.OK):
        await store.client.hincrby(KEY, "open_until", -30_000_000)
        clocks.local_s += 31
        await fleet[1].report(await fleet[1].acquire(), outcome, detail="status-503")


LIFE = [
    Transition("closed", "closed", "first-use"),
    Transition("closed", "open", "failures"),
    Transition("open", "half-open", "recovery"),
    Transition("half-open", "open", "probe-failed"),
    Transition("open", "half-open", "recovery"),
    Transition("half-open", "closed", "probe-ok"),
]


async def test_history_observer_and_channel_tell_the_same(
    fleet: list[Breaker], store: Store, clocks: Clocks, heard: list[Transition]
) -> None:
    async with store.client.pubsub() as listener:
        await listener.subscribe(f"{KEY}:events")
        await live_through(fleet, store, clocks)
        told = [
            message["data"].decode().split()
            for _ in range(20)
            if (message := await listener.get_message(timeout=0.1)) and message["type"] == "message"
        ]
    history = await fleet[2].history(100)
    assert [event.transition for event in reversed(history)] == heard == LIFE
    assert [Transition(before, after, cause) for before, after, _, cause in told] == LIFE  # type: ignore[arg-type]
    generations = [event.generation for event in reversed(history)]
    assert generations == sorted(set(generations))
    assert [int(generation) for _, _, generation, _ in told] == generations
    opened = history[-2]
    assert opened.detail == "timed-out"
    assert opened.worker
    assert abs(opened.at - datetime.now(UTC)) < timedelta(minutes=1)
    assert (await fleet[0].snapshot()).error == "status-503"


async def test_history_gives_the_latest_first_and_no_more_than_asked(
    fleet: list[Breaker], store: Store, clocks: Clocks
) -> None:
    await live_through(fleet, store, clocks)
    latest = await fleet[0].history(2)
    assert [event.transition.cause for event in latest] == ["probe-ok", "recovery"]


async def test_history_is_kept_short(fleet: list[Breaker], store: Store) -> None:
    for _ in range(EVENTS_KEPT + 300):
        await fleet[0]._fleet.command("reset", 0, by="ann", reason="again")
    assert EVENTS_KEPT <= await store.client.xlen(f"{KEY}:events") <= EVENTS_KEPT + 110
    assert 0 < await store.client.pttl(f"{KEY}:events") <= keys.BREAKER_LIFE_MS


async def test_an_operators_word_is_kept_with_name_reason_and_time(
    fleet: list[Breaker], store: Store, heard: list[Transition]
) -> None:
    await fleet[0].force("open", 60, by="ann@desk", reason="maintenance")
    held = (await fleet[1].snapshot()).force
    assert held is not None
    assert (held.by, held.reason) == ("ann@desk", "maintenance")
    assert 59_000 < held.left_ms <= 60_000
    await store.client.hincrby(KEY, "force_until", -60_000_000)
    assert (await fleet[1].snapshot()).force is None
    await fleet[2].acquire()
    await fleet[0].reset(by="ben@desk", reason="all well")
    history: tuple[Event, ...] = await fleet[0].history()
    assert [(e.transition.cause, e.by, e.detail, e.seconds) for e in reversed(history)] == [
        ("forced", "ann@desk", "maintenance", 60),
        ("force-ended", "", "", 0),
        ("reset", "ben@desk", "all well", 0),
    ]
    assert [event.transition for event in reversed(history)] == heard


async def test_history_without_redis_says_so(
    open_store: Callable[..., Awaitable[Store]],
) -> None:
    breaker = Breaker("payment", SETTINGS, await open_store("redis://127.0.0.1:1/0"))
    with pytest.raises(StoreUnavailable):
        await breaker.history()


async def test_all_that_one_script_writes_is_on_one_node(fleet: list[Breaker]) -> None:
    assert key_slot(KEY.encode()) == key_slot(f"{KEY}:events".encode())


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decoded", [True, False])
async def test_replies_mean_the_same_in_either_protocol_decoded_or_not(
    store: Store,
    servers: Servers,
    clocks: Clocks,
    protocol: int,
    decoded: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with redis.asyncio.Redis.from_url(
        servers.redis_url, protocol=protocol, decode_responses=decoded
    ) as client:
        monkeypatch.setattr(Store, "client", client)
        heard: list[Transition] = []
        fleet = [
            Breaker("payment", SETTINGS, store, clock=clocks.local, on_transition=heard.append)
            for _ in range(3)
        ]
        await live_through(fleet, store, clocks)
        assert heard == LIFE
        assert [event.transition for event in reversed(await fleet[0].history())] == LIFE
        seen = await fleet[0].snapshot()
        assert (seen.state, seen.error, seen.force) == ("closed", "status-503", None)
