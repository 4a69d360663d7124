"""Redis behind TLS and a login with the least rights: what docs/redis.md says is what works."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from service.admission.limiter import Limiter
from service.admission.models import Charge, Policy, Subject
from service.admission.published import PublishedLimits
from service.breaker.breaker import Breaker
from service.errors import StoreUnavailable
from service.fleet.board import Board
from service.settings import BreakerSettings, RedisSettings
from service.store import keys
from service.store.client import Store
from tests.support.cluster import valkey_cluster
from tests.support.ear import Ear
from tests.support.redises import MAKES, MadeServer
from tests.support.scripts import call_every_script
from tests.support.sentinels import SERVICE, watched_pair
from tests.support.servers import scratch_directory
from tests.support.tls import Authority, needs_openssl, tls_front

OpenStore = Callable[..., Awaitable[Store]]
DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "redis.md"
CHARGE = Charge(Policy("slow", tokens=9, period_s=86_400, burst=9), Subject("client", "ip:1"))
CHANNEL, POSITION = keys.cache_channel("flow"), keys.cache_position("flow")


def documented(pattern: str) -> list[str]:
    """Words of an ACL rule, as the page says them."""
    found = re.search(pattern, DOCUMENT.read_text(), re.DOTALL)
    assert found
    return found[1].split()


LEAST = documented(r"ACL SETUSER tollgate (.+?)\n")
IN_CLUSTER = documented(r"A cluster needs `(.+?)`")
BEHIND_SENTINEL = documented(r"servers behind Sentinel `(.+?)`")
AT_SENTINELS = documented(r"sentinels themselves `(.+?)`")


def allow(port: int, *rules: str) -> Any:
    admin: Any = redis.Redis(port=port)
    admin.execute_command("ACL", "LOG", "RESET")
    admin.execute_command("ACL", "SETUSER", "tollgate", "reset", *rules)
    return admin


async def everything(store: Store) -> None:
    """All that a worker asks of Redis; what is not allowed raises."""
    await store.run(lambda: store.client.delete(POSITION))
    await store.ping()
    await store.probe()
    await call_every_script(store)
    ear = Ear(CHANNEL)
    subscription = store.subscription(CHANNEL, ear.heard.append, gap=ear.gap)
    await subscription.start()
    limiter = Limiter(store, workers_hint=1)
    await limiter.start()
    breaker = Breaker("payment", BreakerSettings(), store)
    try:
        await ear.until("gap")
        assert not (await limiter.take((CHARGE,))).degraded
        await limiter.reset(CHARGE.policy, CHARGE.subject)
        await breaker.force("open", seconds=1, by="me", reason="test")
        assert await breaker.history()
        published = PublishedLimits(store)
        await published.publish("{}", author="me")
        assert await published.read()
        await published.note("reset", "it", author="me")
        assert await published.changes(2)
        assert await Board(store).samples() == ()
        client = store.client
        assert await store.run(lambda: client.set(POSITION, "1", nx=True, px=1000))
        assert await store.run(lambda: client.get(POSITION)) == b"1"
    finally:
        await breaker.close()
        await limiter.stop()
        await subscription.stop()


@pytest.fixture(scope="module", params=MAKES)
def server(request: pytest.FixtureRequest) -> Iterator[MadeServer]:
    with ExitStack() as stack:
        home = stack.enter_context(scratch_directory())
        yield stack.enter_context(MadeServer(home, request.param))


async def test_the_documented_login_is_allowed_all_that_is_needed(
    open_store: OpenStore, server: MadeServer
) -> None:
    admin = allow(server.port, *LEAST)
    await everything(
        await open_store(f"redis://tollgate:secret@127.0.0.1:{server.port}/0", timeout=2.0)
    )
    assert admin.acl_log() == []


async def test_and_nothing_that_is_not(open_store: OpenStore, server: MadeServer) -> None:
    allow(server.port, *LEAST)
    store = await open_store(f"redis://tollgate:secret@127.0.0.1:{server.port}/0", timeout=2.0)
    for refused in (
        lambda: store.client.get("foreign"),
        store.client.flushall,
        lambda: store.client.config_get("*"),
        lambda: store.client.publish("foreign", "x"),
        lambda: store.client.keys("*"),
    ):
        with pytest.raises(StoreUnavailable):
            await store.run(refused)


async def test_a_wrong_password_is_an_absence_and_is_not_told(
    open_store: OpenStore, server: MadeServer
) -> None:
    allow(server.port, *LEAST)
    store = await open_store(f"redis://tollgate:hidden@127.0.0.1:{server.port}/0", timeout=2.0)
    with pytest.raises(StoreUnavailable) as caught:
        await store.ping()
    assert "hidden" not in repr(caught.value.__cause__)


@pytest.mark.parametrize("make", MAKES)
async def test_the_login_serves_in_a_cluster_and_behind_sentinels(
    open_store: OpenStore, make: Any
) -> None:
    with valkey_cluster(make) as cluster:
        admins = [allow(node.port, *LEAST, *IN_CLUSTER) for node in cluster.nodes]
        url = cluster.url.replace("://", "://tollgate:secret@")
        await everything(await open_store(url, timeout=2.0))
        assert [admin.acl_log() for admin in admins] == [[], [], []]
    with watched_pair(make) as pair:
        admins = [allow(each.port, *LEAST, *BEHIND_SENTINEL) for each in pair.servers]
        admins += [allow(each.port, "on", ">other", *AT_SENTINELS) for each in pair.sentinels]
        url = pair.url.replace("://", "://tollgate:secret@")
        login = "sentinel_user=tollgate&sentinel_password=other"
        await everything(await open_store(f"{url}?{login}", timeout=2.0))
        assert pair.url.endswith(SERVICE)
        assert [admin.acl_log() for admin in admins] == [[]] * 5


@pytest.fixture(scope="module")
def authority() -> Iterator[Authority]:
    with scratch_directory() as home:
        yield Authority(home, "ours")


@pytest.fixture
async def front(authority: Authority, server: MadeServer) -> AsyncIterator[int]:
    issued = authority.issue("server", "IP:127.0.0.1")
    async with tls_front(server.port, issued, clients_of=authority.root.file) as port:
        yield port


@needs_openssl
class TestTls:
    async def test_with_the_authority_and_our_certificate_everything_works(
        self, authority: Authority, server: MadeServer, front: int
    ) -> None:
        ours = authority.issue("client", "DNS:tollgate")
        settings = RedisSettings(
            timeout=2.0,
            connect_timeout=2.0,
            ca_file=authority.root.file,
            certificate_file=ours.file,
            key_file=ours.key,
        )
        allow(server.port, *LEAST)
        store = Store(settings, url=f"rediss://tollgate:secret@127.0.0.1:{front}/0")
        await everything(store)
        await store.close()

    async def test_another_name_or_authority_or_no_certificate_of_ours_is_refused(
        self, authority: Authority, server: MadeServer, front: int, tmp_path: Path
    ) -> None:
        ours = authority.issue("client", "DNS:tollgate")
        foreign = Authority(tmp_path, "foreign")
        named = authority.issue("named", "DNS:cache.example")
        known = {"ca_file": authority.root.file, "certificate_file": ours.file,
                 "key_file": ours.key}  # fmt: skip
        async with tls_front(server.port, named) as wrong_name:
            for port, files in (
                (wrong_name, known),
                (front, {**known, "ca_file": foreign.root.file}),
                (front, {"ca_file": authority.root.file}),
                (front, {}),
            ):
                store = Store(
                    RedisSettings(timeout=2.0, connect_timeout=2.0, **files),
                    url=f"rediss://127.0.0.1:{port}/0",
                )
                with pytest.raises(StoreUnavailable):
                    await store.ping()
                with pytest.raises(StoreUnavailable):
                    await store.line(store.nodes()[0]).exchange([b"*1\r\n$4\r\nPING\r\n"])
                await store.close()
                await asyncio.sleep(0)
