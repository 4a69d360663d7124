from __future__ import annotations

import re

from service.store import keys


def tag(key: str) -> str:
    """What Redis Cluster hashes: the text in the first braces."""
    match = re.search(r"\{(.+?)\}", key)
    assert match
    return match[1]


def test_all_buckets_of_one_principal_share_a_node() -> None:
    per_route = keys.bucket("status", "client:10.0.0.1", shadow=False)
    whole = keys.bucket("default", "client:10.0.0.1", shadow=True)
    assert tag(per_route) == tag(whole) == "client:10.0.0.1"


def test_a_policy_on_trial_counts_apart_from_the_enforced_one() -> None:
    assert keys.bucket("a", "s", shadow=True) != keys.bucket("a", "s", shadow=False)


def test_braces_in_a_name_do_not_end_the_hash_tag() -> None:
    value, version = keys.cache_value("flow", "a}b{"), keys.cache_fence("flow", "a}b{")
    assert tag(value) == tag(version)
    assert keys.cache_value("flow", "a}") != keys.cache_value("flow", "a%7D")
