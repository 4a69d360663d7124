"""Cluster and Sentinel behind TLS, with certificates both ways and the documented logins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.admission.limiter import Limiter
from service.errors import StoreUnavailable
from service.settings import RedisSettings
from service.store.client import Store
from tests.support.cluster import ValkeyCluster, valkey_cluster
from tests.support.logins import (
    AT_SENTINELS,
    BEHIND_SENTINEL,
    CHARGE,
    IN_CLUSTER,
    LEAST,
    allow,
    everything,
)
from tests.support.redises import encrypted, needs_tls_server
from tests.support.sentinels import WatchedPair, watched_pair
from tests.support.tls import Authority, needs_openssl

pytestmark = [needs_openssl, needs_tls_server]
#: What the nodes call each other, and so what their certificates must be for.
NAMED = ("--cluster-announce-hostname", "localhost",
         "--cluster-preferred-endpoint-type", "hostname")  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[ValkeyCluster, Authority]]:
    with encrypted("DNS:localhost") as (make, authority), valkey_cluster(make, *NAMED) as running:
        yield running, authority


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[WatchedPair, Authority]]:
    with encrypted("IP:127.0.0.1") as (make, authority), watched_pair(make) as running:
        yield running, authority


def settings(trusted: Authority, issuer: Authority | None, limit_s: float = 5.0) -> RedisSettings:
    """Trusting one, and with a certificate by the other."""
    files: dict[str, Any] = {"ca_file": trusted.root.file}
    if issuer:
        ours = issuer.issue("client", "DNS:tollgate")
        files |= {"certificate_file": ours.file, "key_file": ours.key}
    return RedisSettings(timeout=limit_s, connect_timeout=limit_s, **files)


async def test_a_cluster_is_found_by_its_nodes_names_and_followed_while_slots_move(
    cluster: tuple[ValkeyCluster, Authority],
) -> None:
    nodes, authority = cluster
    admins = [allow(node.port, *LEAST, *IN_CLUSTER) for node in nodes.nodes]
    url = nodes.url.replace("://", "://tollgate:secret@").replace("127.0.0.1", "localhost")
    store = Store(settings(authority, authority), url=url)
    await everything(store)
    assert len(store.nodes()) == 3
    assert all(node.startswith("localhost:") for node in store.nodes())

    limiter = Limiter(store, workers_hint=1)
    target = (nodes.holder(CHARGE.key) + 1) % 3
    nodes.begin_move(CHARGE.key, target)
    asked = await limiter.take((CHARGE,))
    nodes.end_move(CHARGE.key, target)
    moved = await limiter.take((CHARGE,))
    left = CHARGE.policy.burst - 1
    assert [(it.degraded, it.states[0].remaining) for it in (asked, moved)] == [
        (False, left),
        (False, left - 1),
    ]
    assert [admin.acl_log() for admin in admins] == [[]] * 3
    await store.close()


async def test_behind_sentinels_the_next_primary_is_found_as_well(
    pair: tuple[WatchedPair, Authority],
) -> None:
    watched, authority = pair
    admins = [allow(each.port, *LEAST, *BEHIND_SENTINEL) for each in watched.servers]
    admins += [allow(each.port, "on", ">other", *AT_SENTINELS) for each in watched.sentinels]
    url = watched.url.replace("://", "://tollgate:secret@")
    login = "sentinel_user=tollgate&sentinel_password=other"
    store = Store(settings(authority, authority), url=f"{url}?{login}")
    await everything(store)
    first = store.place_of(store.nodes()[0])
    watched.fail_over()
    await store.look_again()
    await everything(store)
    second = store.place_of(store.nodes()[0])
    ports = {f"127.0.0.1:{server.told_port}" for server in watched.servers}
    assert {first, second} == ports
    assert [admin.acl_log() for admin in admins] == [[]] * 5
    await store.close()


async def test_another_authority_or_no_certificate_of_ours_is_refused_by_every_kind(
    cluster: tuple[ValkeyCluster, Authority], pair: tuple[WatchedPair, Authority], tmp_path: Path
) -> None:
    foreign = Authority(tmp_path, "foreign")
    for url, authority in (
        (cluster[0].url.replace("127.0.0.1", "localhost"), cluster[1]),
        # The certificate is for the name.
        (cluster[0].url, None),
        (pair[0].url, pair[1]),
    ):
        wrong = [(foreign, authority), (authority, foreign), (authority, None)]
        for trusted, issuer in wrong if authority else [(cluster[1], cluster[1])]:
            assert trusted
            store = Store(settings(trusted, issuer, limit_s=2.0), url=url)
            with pytest.raises(StoreUnavailable):
                await store.probe()
            await store.close()
