"""Limits published for the fleet: over several workers' rules on one real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from pydantic import SecretStr

from scripts.devservers import EmbeddedValkey
from service.admission import rules as rules_module
from service.admission.api_keys import KeyHash, new_key
from service.admission.published import PublishedLimits
from service.admission.rules import Rules
from service.settings import LimitSettings, limits_document
from service.store import keys
from service.store.client import Store
from tests.support.waiting import until

OpenStore = Callable[..., Awaitable[Store]]
OpenRules = Callable[..., Awaitable[Rules]]
SECRET, OTHER_SECRET = "a-secret-of-the-fleet", "another-secret-entirely"


@dataclass(slots=True)
class Seen:
    changed: int = 0
    refused: int = 0

    def rules_changed(self) -> None:
        self.changed += 1

    def rules_refused(self) -> None:
        self.refused += 1


@pytest.fixture
async def open_rules(store: Store) -> AsyncIterator[OpenRules]:
    """Makes the watching rules of one more worker."""
    async with AsyncExitStack() as stack:

        async def make(
            on: Store = store, *, seen: Seen | None = None, secret: str = SECRET
        ) -> Rules:
            made = Rules(
                LimitSettings(), PublishedLimits(on), key_secret=SecretStr(secret), observer=seen
            )
            await made.start()
            stack.push_async_callback(made.stop)
            return made

        yield make


@pytest.fixture
def published(store: Store) -> PublishedLimits:
    return PublishedLimits(store)


def document(**tables: object) -> str:
    return limits_document(LimitSettings.model_validate(tables))


def flows_burst(rules: Rules) -> int:
    return rules.current.policies["flows"].burst


async def several_looks(count: int = 3) -> None:
    await asyncio.sleep(count * rules_module.LOOK_INTERVAL_S[1])


@pytest.fixture
def really() -> tuple[float, float]:
    """How often workers look where no test hurries them."""
    return rules_module.LOOK_INTERVAL_S


@pytest.fixture(autouse=True)
def hurried(really: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "LOOK_INTERVAL_S", (0.05, 0.1))


def test_every_worker_looks_well_within_the_promised_second(really: tuple[float, float]) -> None:
    assert really[1] <= 0.5


async def test_published_limits_hold_in_running_workers_and_in_those_that_join(
    open_rules: OpenRules, published: PublishedLimits
) -> None:
    first, second = await open_rules(), await open_rules()
    assert flows_burst(first) == flows_burst(second) == 30
    version = await published.publish(document(flows={"rate": "7/minute"}), author="ann")
    await until(lambda: flows_burst(first) == flows_burst(second) == 7)
    assert f"published-{version}" in first.current.version
    assert first.current.version == second.current.version
    joined = await open_rules()
    assert flows_burst(joined) == 7, "before it serves its first request"


async def test_reverting_goes_back_to_the_files_and_the_versions_go_on(
    open_rules: OpenRules, published: PublishedLimits
) -> None:
    rules = await open_rules()
    own = rules.current
    applied = await published.publish(document(flows={"rate": "7/minute"}), author="ann")
    await until(lambda: flows_burst(rules) == 7)
    assert await published.publish("", author="bob") > applied
    await until(lambda: rules.current is own)
    assert (await open_rules()).current.version == own.version


@pytest.mark.parametrize(
    "bad",
    [
        "no document",
        "[]",
        '{"flows": {"rate": "9/minute", "shadowy": 1}}',
        '{"flows": {"rate": "9/minute"}, "status": {"rate": "1/minute", "cost": 2}}',
        '{"flows": {"rate": "9/minute"}, "more": {"rate": "1/minute", "routes": ["nowhere"]}}',
    ],
)
async def test_document_that_cannot_be_used_keeps_the_old_one_and_is_counted_once(
    open_rules: OpenRules, published: PublishedLimits, bad: str
) -> None:
    seen = Seen()
    rules = await open_rules(seen=seen)
    await published.publish(document(flows={"rate": "7/minute"}), author="ann")
    await until(lambda: flows_burst(rules) == 7)
    held = rules.current
    await published.publish(bad, author="bob")
    await until(lambda: seen.refused)
    await several_looks()
    assert rules.current is held
    assert (seen.changed, seen.refused) == (1, 1)
    await published.publish(document(flows={"rate": "8/minute"}), author="ann")
    await until(lambda: flows_burst(rules) == 8)


async def test_keys_under_another_secret_are_refused_rather_than_all_unknown(
    open_rules: OpenRules, published: PublishedLimits
) -> None:
    key = new_key()
    seen = Seen()
    with_secret = await open_rules()
    without = await open_rules(seen=seen, secret=OTHER_SECRET)
    sold = {"acme": {"hash": KeyHash(SECRET).written(key)}}
    await published.publish(document(keys=sold), author="ann")
    await until(lambda: with_secret.current.keys)
    await until(lambda: seen.refused)
    assert with_secret.current.keys.name_of(key) == "acme"
    assert not without.current.keys


async def test_what_redis_loses_is_restored_for_those_that_join_later(
    open_rules: OpenRules, published: PublishedLimits, store: Store
) -> None:
    rules = await open_rules()
    version = await published.publish(document(flows={"rate": "7/minute"}), author="ann")
    await until(lambda: flows_burst(rules) == 7)
    await store.client.flushall()
    await several_looks()
    assert flows_burst(rules) == 7
    assert await published.version() == version
    assert flows_burst(await open_rules()) == 7


async def test_restoring_never_undoes_a_later_change(
    open_rules: OpenRules, published: PublishedLimits, store: Store
) -> None:
    rules = await open_rules()
    await published.publish(document(flows={"rate": "7/minute"}), author="ann")
    await until(lambda: flows_burst(rules) == 7)
    old = await published.read()
    assert old is not None
    later = await published.publish(document(flows={"rate": "8/minute"}), author="ann")
    await published.restore(old)
    assert await published.version() == later
    await until(lambda: flows_burst(rules) == 8)


async def test_versions_grow_even_if_the_clock_of_redis_is_set_back(
    published: PublishedLimits, store: Store
) -> None:
    future = 4_000_000_000_000_000
    await store.client.hset(keys.rules(), "version", str(future))
    assert await published.publish("", author="ann") == future + 1
    assert await published.publish("", author="ann") == future + 2


async def test_an_outage_keeps_what_holds_and_the_way_back_is_found(
    open_rules: OpenRules,
    open_store: OpenStore,
    private_valkey: Callable[[], EmbeddedValkey],
) -> None:
    server = private_valkey()
    store = await open_store(server.url)
    rules = await open_rules(store)
    await PublishedLimits(store).publish(document(flows={"rate": "7/minute"}), author="ann")
    await until(lambda: flows_burst(rules) == 7)
    server.stop()
    await several_looks()
    assert flows_burst(rules) == 7
    starting = await open_rules(store)
    assert flows_burst(starting) == 30, "Redis away: its own files"
    server.start()
    await until(lambda: flows_burst(starting) == 7)


async def test_garbage_in_place_of_the_version_does_not_end_the_watch(
    open_rules: OpenRules, published: PublishedLimits, store: Store
) -> None:
    rules = await open_rules()
    await store.client.hset(keys.rules(), "version", "seven")
    await several_looks()
    await store.client.delete(keys.rules())
    await published.publish(document(flows={"rate": "7/minute"}), author="ann")
    await until(lambda: flows_burst(rules) == 7)


async def test_a_look_that_fails_for_a_reason_nobody_thought_of_does_not_end_the_watch(
    open_rules: OpenRules, published: PublishedLimits, store: Store
) -> None:
    class Stumbling(PublishedLimits):
        looks = 0

        async def version(self) -> int:
            self.looks += 1
            if self.looks == 2:
                raise RecursionError
            return await super().version()

    rules = Rules(LimitSettings(), Stumbling(store))
    await rules.start()
    try:
        await published.publish(document(flows={"rate": "7/minute"}), author="ann")
        await until(lambda: flows_burst(rules) == 7)
    finally:
        await rules.stop()


async def test_changes_tell_who_did_what(published: PublishedLimits) -> None:
    version = await published.publish(document(), author="ann@desk")
    await published.note("reset", "key:acme flows", author="bob@desk")
    await published.publish("", author="ann@desk")
    changes = await published.changes(10)
    assert [(change.author, change.kind) for change in changes] == [
        ("ann@desk", "revert"),
        ("bob@desk", "reset"),
        ("ann@desk", "apply"),
    ]
    assert changes[1].detail == "key:acme flows"
    assert str(version) in changes[2].detail
