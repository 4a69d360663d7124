from __future__ import annotations

import pytest

from service.errors import ConfigurationError
from service.settings import RedisSettings
from service.store.client import Store


@pytest.mark.parametrize("scheme", ["redis+sentinel", "rediss+sentinel"])
def test_sentinels_are_refused_by_name(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="not supported yet"):
        Store(RedisSettings(), url=f"{scheme}://host:6379/0")


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
    with pytest.raises(ConfigurationError, match="not a cluster's URL") as caught:
        Store(RedisSettings(), url="redis+cluster://user:hidden@:port,")
    assert "hidden" not in str(caught.value)
    await store.close()
