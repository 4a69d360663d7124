"""What a request is charged, and who is not: the one question asked on every request."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from service.admission import rulebook as rulebook_module
from service.admission.api_keys import KeyHash
from service.admission.models import Charge, Subject
from service.admission.policies import rulebook_from
from service.admission.rulebook import Client, Rulebook, Ruling
from service.settings import LimitSettings

SECRET = "a-secret-of-the-fleet"
HASH = KeyHash(SECRET).written("any key")
STRANGER = Client("198.51.100.9", "ip:198.51.100.9")
ACME = Client("198.51.100.9", "key:acme", "acme")
REFUSED, FREE = Ruling(refused=True), Ruling()


def rulebook(**tables: Any) -> Rulebook:
    known = {"acme": {"hash": HASH, "tier": "gold"}}
    tables = {"keys": known, "tiers": {"gold": {"flows": {"rate": "60/minute"}}}, **tables}
    return rulebook_from(LimitSettings.model_validate(tables), key_secret=SecretStr(SECRET))


def test_a_request_is_charged_to_the_policy_of_its_route() -> None:
    book = rulebook_from(LimitSettings())
    assert book.judge("status", STRANGER) == Ruling(
        (Charge(book.policies["status"], Subject("client", "ip:198.51.100.9")),)
    )


def test_all_policies_of_the_route_are_charged_their_cost_the_fleets_for_all_together() -> None:
    book = rulebook(
        pay={"rate": "50/second", "cost": 5, "scope": "fleet", "routes": ["flows"]},
        whole={"rate": "50/second", "cost": 2, "routes": ["*"]},
    )
    client = Subject("client", "ip:198.51.100.9")
    assert book.judge("flows", STRANGER).charges == (
        Charge(book.policies["flows"], client),
        Charge(book.policies["whole"], client, cost=2),
        Charge(book.policies["pay"], Subject("fleet"), cost=5),
    )
    assert [c.policy.name for c in book.judge("status", STRANGER).charges] == ["status", "whole"]


def test_a_key_is_charged_by_its_tier_and_counted_by_its_name() -> None:
    (charge,) = rulebook().judge("flows", ACME).charges
    assert (charge.policy.tokens, charge.subject.value) == (60, "key:acme")
    (unknown,) = rulebook().judge("flows", Client("198.51.100.9", "key:unknown")).charges
    assert (unknown.policy.tokens, unknown.subject.value) == (30, "key:unknown")


@pytest.mark.parametrize(
    ("lists", "stranger", "acme"),
    [
        ({"allow": {"networks": ["198.51.100.0/24"]}}, FREE, FREE),
        ({"allow": {"keys": ["acme"]}}, None, FREE),
        ({"deny": {"networks": ["198.51.100.0/24"]}}, REFUSED, REFUSED),
        ({"deny": {"keys": ["acme"]}}, None, REFUSED),
        ({"deny": {"networks": ["198.51.0.0/16"]}, "allow": {"keys": ["acme"]}}, REFUSED, REFUSED),
        ({"allow": {"networks": ["0.0.0.0/0"]}, "deny": {"keys": ["acme"]}}, FREE, REFUSED),
        ({"deny": {"networks": ["203.0.113.0/24", "::/0"]}}, None, None),
    ],
)
def test_lists(lists: dict[str, Any], stranger: Ruling | None, acme: Ruling | None) -> None:
    book = rulebook(**lists)
    for client, ruling in ((STRANGER, stranger), (ACME, acme)):
        seen = book.judge("flows", client)
        assert bool(seen.charges) is (ruling is None)
        if ruling is not None:
            assert seen == ruling


def test_one_address_of_an_ipv6_customer_is_denied_without_the_others() -> None:
    """They are one principal: a ruling kept by principal alone would be one for both."""
    book = rulebook(deny={"networks": ["2001:db8::1/128"]})
    for _ in range(2):
        assert book.judge("flows", Client("2001:db8::1", "ip:2001:db8::/64")) == REFUSED
        assert book.judge("flows", Client("2001:db8::2", "ip:2001:db8::/64")).charges


def test_rulings_are_kept_and_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rulebook_module, "MOST_RULINGS", 8)
    book = rulebook()
    assert book.judge("flows", STRANGER) is book.judge("flows", STRANGER)
    for i in range(100):
        book.judge("flows", Client("x", f"ip:10.0.0.{i}"))
    assert book._judge.cache_info().currsize == 8  # type: ignore[attr-defined]


def test_a_rulebook_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        rulebook().version = "other"  # type: ignore[misc]
