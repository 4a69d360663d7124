from __future__ import annotations

import pytest

from service.errors import ConfigurationError
from service.settings import RedisSettings
from service.store.client import Store


@pytest.mark.parametrize("url", ["", "http://host", "redis://host:port/0", "redis://host/0?db=x"])
def test_what_is_no_redis_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^redis\.url: ") as caught:
        Store(RedisSettings(), url=url.replace("//", "//user:hidden@"))
    assert "hidden" not in str(caught.value)


def test_repr_says_where_and_how_it_is_and_keeps_the_password() -> None:
    store = Store(RedisSettings(), url="rediss://user:hidden@cache.example:6380/2")
    assert repr(store) == "<Store cache.example:6380/2 reachable>"


def test_nothing_is_retried_and_every_wait_is_bounded() -> None:
    store = Store(RedisSettings(timeout=0.1, connect_timeout=0.2), url="redis://localhost")
    options = store.client.connection_pool.connection_kwargs
    assert options["retry"].get_retries() == 0
    assert options["socket_timeout"] == 0.1
    assert options["socket_connect_timeout"] == 0.2


async def test_a_cluster_is_named_by_some_of_its_nodes_without_the_password() -> None:
    url = "rediss+cluster://user:hidden@cache-a.example,cache-b.example:7000"
    store = Store(RedisSettings(), url=url)
    assert repr(store) == "<Store cache-a.example:6379,cache-b.example:7000 reachable>"
    assert store.clustered
    await store.close()


@pytest.mark.parametrize("rest", [":port,", "host/0", "host?db=1"])
def test_what_is_no_clusters_url_is_refused_without_repeating_it(rest: str) -> None:
    with pytest.raises(ConfigurationError, match="not a cluster's URL") as caught:
        Store(RedisSettings(), url=f"redis+cluster://user:hidden@{rest}")
    assert "hidden" not in str(caught.value)


async def test_a_service_is_named_by_its_sentinels_without_the_passwords() -> None:
    url = "redis+sentinel://u:hidden@one.example,two.example:7/limits?db=2&sentinel_password=hidden"
    store = Store(RedisSettings(), url=url)
    assert repr(store) == "<Store one.example:26379,two.example:7/limits reachable>"
    assert (store.clustered, store.nodes()) == (False, ("limits",))
    await store.close()


@pytest.mark.parametrize("rest", ["host", "host/", "host/a/b", "host/a?db=x", "host/a?what=1", ","])
def test_what_names_no_service_is_refused_without_repeating_it(rest: str) -> None:
    with pytest.raises(ConfigurationError, match="not a Sentinel URL") as caught:
        Store(RedisSettings(), url=f"redis+sentinel://user:hidden@{rest}")
    assert "hidden" not in str(caught.value)
