"""From limits as data to a rulebook: what the parts say of each other, and every fault of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import SecretStr

from service.admission.api_keys import KeyHash, new_key
from service.admission.models import Policy
from service.admission.policies import rulebook_from
from service.admission.rulebook import Rulebook
from service.errors import ConfigurationError
from service.settings import LimitSettings, limits_document, limits_from

SECRET = "a-secret-of-the-fleet"
HASH = KeyHash(SECRET).written("any key")
WHOLE = {"rate": "300/minute", "routes": ["*"]}
SHARED = {"rate": "5/second", "scope": "fleet", "routes": ["start_job"]}


def limits(**tables: Any) -> LimitSettings:
    return LimitSettings.model_validate(tables)


def rulebook(**tables: Any) -> Rulebook:
    return rulebook_from(limits(**tables), key_secret=SecretStr(SECRET))


def faults(*, secret: str | None = SECRET, **tables: Any) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        rulebook_from(limits(**tables), key_secret=SecretStr(secret) if secret else None)
    return caught.value.message.splitlines()


def test_policies_come_from_the_settings_by_name() -> None:
    start_job = {"rate": "5/second", "burst": 9, "cost": 3, "on_outage": "closed", "shadow": True}
    policies = rulebook(start_job=start_job).policies
    assert policies["start_job"] == Policy("start_job", 5, 1, 9, "closed", shadow=True, cost=3)
    assert policies["status"] == Policy("status", 60, 60, 60)
    assert set(policies) == set(LimitSettings().route_classes)


def test_by_default_each_route_class_has_its_own_policy_and_no_other() -> None:
    default = rulebook_from(LimitSettings())
    assert default.routes == {name: (name,) for name in LimitSettings().route_classes}
    assert not default.keys
    assert not default.allow
    assert not default.deny


def test_further_policies_stand_beside_those_of_their_routes_and_the_fleets_come_last() -> None:
    routes = rulebook(
        pay=SHARED, whole=WHOLE, some={"rate": "1/second", "routes": ["demo", "start_job"]}
    ).routes
    assert routes["start_job"] == ("start_job", "whole", "some", "pay")
    assert routes["demo"] == ("demo", "whole", "some")
    assert routes["default"] == ("default", "whole")


def test_tier_replaces_what_it_names_and_nothing_else() -> None:
    book = rulebook(
        flows={"rate": "30/minute", "burst": 5, "cost": 2},
        keys={"acme": {"hash": HASH, "tier": "gold"}},
        tiers={"gold": {"flows": {"rate": "60/minute"}, "status": {"rate": "2/second"}}},
    )
    mine = book.policies_for("acme")
    assert mine["flows"] == Policy("flows", 60, 60, 5, cost=2)
    assert mine["status"] == Policy("status", 2, 1, 2), "an unset burst goes with the rate"
    assert mine["demo"] is book.policies["demo"]
    assert book.policies_for(None) is book.policies_for("unknown") is book.policies


@pytest.mark.parametrize("shadow", [True, False])
def test_tier_can_put_a_policy_on_trial_or_enforce_it(shadow: bool) -> None:
    book = rulebook(
        flows={"rate": "30/minute", "shadow": not shadow},
        keys={"acme": {"hash": HASH, "tier": "gold"}},
        tiers={"gold": {"flows": {"shadow": shadow}}},
    )
    assert book.policies_for("acme")["flows"].shadow is shadow


@pytest.mark.parametrize(
    ("tables", "fault"),
    [
        ({"flows": {"rate": "1/second", "cost": 2}}, "limits.flows: a cost of 2 can never"),
        ({"flows": {"rate": "1/day", "burst": 1000}}, "limits.flows: .* more than a year"),
        (
            {"more": {"rate": "1/second", "routes": ["flow"]}},
            "limits.more.routes: there is no route class flow",
        ),
        ({"tiers": {"gold": {"flow": {}}}}, "limits.tiers.gold.flow: there is no policy flow"),
        (
            {"pay": SHARED, "tiers": {"gold": {"pay": {"rate": "9/second"}}}},
            "limits.tiers.gold.pay: pay is one bucket for all clients",
        ),
        (
            {
                "flows": {"rate": "9/second", "cost": 9},
                "tiers": {"gold": {"flows": {"burst": 8}}},
            },
            "limits.tiers.gold.flows: a cost of 9 can never",
        ),
        (
            {"keys": {"acme": {"hash": HASH, "tier": "gold"}}},
            "limits.keys.acme.tier: there is no tier gold",
        ),
        (
            {"keys": {"acme": {"hash": HASH}, "bolt": {"hash": HASH}}},
            "limits.keys.bolt.hash: is the same as that of limits.keys.acme",
        ),
        (
            {"keys": {"acme": {"hash": KeyHash("another").written("any key")}}},
            "limits.keys.acme.hash: was made under another secret",
        ),
        ({"keys": {"unknown": {"hash": HASH}}}, "limits.keys.unknown: "),
        ({"allow": {"keys": ["acme"]}}, "limits.allow.keys: there is no key acme"),
        (
            {"allow": {"networks": ["10.0.0.0/8"]}, "deny": {"networks": ["10.0.0.0/8"]}},
            "limits.allow.networks: 10.0.0.0/8 is on the deny list too",
        ),
    ],
)
def test_every_contradiction_is_one_line(tables: dict[str, Any], fault: str) -> None:
    (line,) = faults(**tables)
    assert re.match(fault, line), line


def test_all_faults_are_told_at_once() -> None:
    found = faults(
        flows={"rate": "1/second", "cost": 2},
        more={"rate": "1/second", "routes": ["here", "there"]},
        tiers={"gold": {"flow": {}}},
        deny={"keys": ["acme"]},
    )
    assert len(found) == 5


def test_keys_without_the_secret_are_a_fault() -> None:
    (line,) = faults(secret=None, keys={"acme": {"hash": HASH}})
    assert "TOLLGATE_ADMIN__KEY_SECRET" in line


def test_published_document_means_the_same_as_what_it_was_made_from() -> None:
    key = new_key()
    given = limits(
        whole=WHOLE,
        pay=SHARED,
        keys={"acme": {"hash": KeyHash(SECRET).written(key), "tier": "gold"}},
        tiers={"gold": {"whole": {"rate": "1000/minute", "burst": 7}}},
        allow={"networks": ["10.1.2.3/8"]},
        deny={"networks": ["2001:db8::/32"]},
    )
    document = limits_document(given)
    assert limits_from(document) == given
    assert key not in document
    mine, theirs = (
        rulebook_from(each, key_secret=SecretStr(SECRET)) for each in (given, limits_from(document))
    )
    assert (mine.version, mine.policies, mine.tiers) == (
        theirs.version,
        theirs.policies,
        theirs.tiers,
    )
    assert (mine.allow, mine.deny, mine.routes) == (theirs.allow, theirs.deny, theirs.routes)
    assert theirs.keys.name_of(key) == "acme"


@pytest.mark.parametrize(
    ("document", "faults"),
    [
        ("no json", 1),
        ("[]", 1),
        ('{"flows": {"rate": "30"}, "status": {"shadow": 7}}', 3),
        ('{"flow": {"rate": "1/second"}}', 1),
    ],
)
def test_document_that_is_none_is_told_line_by_line(document: str, faults: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        limits_from(document)
    lines = caught.value.message.splitlines()
    assert len(lines) == faults
    assert all(line.startswith("limits") for line in lines)


def test_versions_tell_contents_apart() -> None:
    assert rulebook().version == rulebook().version
    assert rulebook().version != rulebook(flows={"rate": "31/minute"}).version
