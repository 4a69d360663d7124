"""API keys as part of who is asking, and what attackers try with them and with addresses."""

from __future__ import annotations

import tracemalloc
from ipaddress import ip_address
from typing import Any, cast

import pytest
from multidict import CIMultiDict
from pydantic import SecretStr

from service.admission.api_keys import KeyHash, new_key
from service.admission.policies import rulebook_from
from service.admission.rulebook import Client, Rulebook
from service.admission.rules import Rules
from service.api import identity as identity_module
from service.api.identity import ClientIdentity
from service.settings import LimitSettings

SECRET = "a-secret-of-the-fleet"
KEY, OTHER = new_key(), new_key()
PEER = "203.0.113.5"
BY_ADDRESS = Client(PEER, f"ip:{PEER}")
ACME = Client(PEER, "key:acme", "acme")
UNKNOWN = Client(PEER, "key:unknown", origin=f"ip:{PEER}")


class Held:
    """Rules whose rulebook a test may swap."""

    def __init__(self, **keys: str) -> None:
        self.current: Rulebook
        self.hold(**keys)

    def hold(self, **keys: str) -> None:
        key_hash = KeyHash(SECRET)
        known = {name: {"hash": key_hash.written(key)} for name, key in keys.items()}
        limits = LimitSettings.model_validate({"keys": known})
        self.current = rulebook_from(limits, key_secret=SecretStr(SECRET))


def identity(held: Held | None = None, **options: Any) -> ClientIdentity:
    return ClientIdentity(rules=cast("Rules", held or Held(acme=KEY)), **options)


def client(*fields: tuple[str, str], held: Held | None = None) -> Client:
    return identity(held).of(PEER, CIMultiDict(fields))


@pytest.mark.parametrize(
    "fields",
    [
        [("X-API-Key", KEY)],
        [("x-api-key", KEY)],
        [("Authorization", f"Bearer {KEY}")],
        [("authorization", f"bearer   {KEY} ")],
        [("X-API-Key", KEY), ("Authorization", "Bearer something-else")],
    ],
)
def test_a_known_key_is_its_bearers_name(fields: list[tuple[str, str]]) -> None:
    assert client(*fields) == ACME


@pytest.mark.parametrize(
    "fields",
    [
        [("X-API-Key", OTHER)],
        [("X-API-Key", "")],
        [("X-API-Key", "unknown")],
        [("X-API-Key", "acme")],
        [("X-API-Key", KEY + "x")],
        [("X-API-Key", KEY[:-1])],
        [("X-API-Key", KEY.swapcase())],
        [("X-API-Key", "x" * 8000)],
        [("X-API-Key", "\udcff\udc00")],
        [("X-API-Key", f"{KEY}, {KEY}")],
        [("X-API-Key", OTHER), ("X-API-Key", KEY)],
        [("X-API-Key", OTHER), ("Authorization", f"Bearer {KEY}")],
        [("Authorization", f"Bearer {OTHER}")],
        [("Authorization", "Bearer ")],
    ],
)
def test_all_keys_that_are_not_known_are_one_principal(fields: list[tuple[str, str]]) -> None:
    assert client(*fields) == UNKNOWN


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("Authorization", "Basic YTpi")],
        [("Authorization", f"Token {KEY}")],
        [("Authorization", KEY)],
        [("Authorization", "")],
        [("token", KEY)],
        [("Cookie", f"X-API-Key={KEY}")],
    ],
)
def test_what_is_no_key_leaves_the_address(fields: list[tuple[str, str]]) -> None:
    assert client(*fields) == BY_ADDRESS


def test_without_any_key_in_the_rules_none_is_looked_at() -> None:
    assert client(("X-API-Key", KEY), held=Held()) == BY_ADDRESS
    assert ClientIdentity().of(PEER, CIMultiDict({"X-API-Key": KEY})) == BY_ADDRESS


def test_a_key_that_is_withdrawn_or_added_counts_from_the_next_request() -> None:
    held = Held(acme=KEY)
    asking = identity(held)
    shown = CIMultiDict({"X-API-Key": KEY})
    assert asking.of(PEER, shown) == ACME
    held.hold(bolt=OTHER)
    assert asking.of(PEER, shown) == UNKNOWN
    held.hold(bolt=KEY)
    assert asking.of(PEER, shown).principal == "key:bolt"


def test_a_key_counts_wherever_its_bearer_is_and_the_address_stays_known() -> None:
    seen = identity(trusted_proxies=["10.0.0.0/8"]).of(
        "10.0.0.1", CIMultiDict({"X-API-Key": KEY, "X-Forwarded-For": "198.51.100.9"})
    )
    assert seen == Client("198.51.100.9", "key:acme", "acme")


def test_strangers_counted_as_one_do_not_own_each_others_things() -> None:
    asking, shown = identity(), CIMultiDict({"X-API-Key": OTHER})
    one, other = asking.of(PEER, shown), asking.of("203.0.113.6", shown)
    assert one.principal == other.principal
    assert one.owner != other.owner
    assert asking.of(PEER, CIMultiDict()).owner == one.owner == f"ip:{PEER}"
    assert client(("X-API-Key", KEY)).owner == "key:acme"


def test_principals_of_keys_and_of_addresses_cannot_be_confused() -> None:
    assert client(("X-API-Key", f"ip:{PEER}")) == UNKNOWN
    for peer in ("key:acme", "ip:203.0.113.5", "fleet"):
        assert identity().of(peer, CIMultiDict()).principal == "peer:unknown"


def test_long_headers_are_not_kept() -> None:
    asking = identity(trusted_proxies=["10.0.0.0/8"])
    for i in range(3):
        asking.of("10.0.0.1", CIMultiDict({"X-Forwarded-For": f"{'g' * 300}{i}, 198.51.100.1"}))
        asking.of("10.0.0.1", CIMultiDict({"X-Forwarded-For": "198.51.100.1"}))
    assert asking._of_chain.cache_info().currsize == 1


def test_minting_keys_headers_and_addresses_takes_no_more_memory_than_the_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity_module, "MOST_CLIENTS", 64)
    asking = identity(trusted_proxies=["10.0.0.0/8"])

    def attack(rounds: range) -> set[str]:
        return {
            asking.of(
                str(ip_address(0xCB007100 + i % 7)) if i % 2 else "10.0.0.1",
                CIMultiDict(
                    {
                        "X-API-Key": f"{'k' * 200}{i}",
                        "X-Forwarded-For": f"{'g' * 4000}{i}, 198.51.100.{i % 5}",
                    }
                ),
            ).principal
            for i in rounds
        }

    attack(range(10_000))  # fills every cache there is
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        assert attack(range(10_000, 20_000)) == {"key:unknown"}
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000_000
