"""Redis behind TLS and a login with the least rights: what docs/redis.md says is what works."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.settings import RedisSettings
from service.store.client import Store
from tests.support.cluster import valkey_cluster
from tests.support.logins import AT_SENTINELS, BEHIND_SENTINEL, IN_CLUSTER, LEAST, allow, everything
from tests.support.redises import MAKES, MadeServer
from tests.support.sentinels import SERVICE, watched_pair
from tests.support.servers import scratch_directory
from tests.support.tls import Authority, needs_openssl, tls_front

OpenStore = Callable[..., Awaitable[Store]]


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
