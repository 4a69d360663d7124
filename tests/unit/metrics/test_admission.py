"""What admission tells its counters, as the page shows it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from service.admission.models import Decision, LimitState, Policy
from service.metrics.admission import AdmissionCounts

FLOWS = Policy("flows", tokens=30, period_s=60, burst=30)
FLEET = Policy("all_flows", tokens=100, period_s=60, burst=100, scope="fleet")
TRIAL = Policy("trial", tokens=1, period_s=60, burst=1, shadow=True)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def counts(registry: CollectorRegistry) -> AdmissionCounts:
    return AdmissionCounts(registry)


def room(policy: Policy, remaining: int = 25) -> LimitState:
    return LimitState(policy, remaining, 0, 1000)


def no_room(policy: Policy) -> LimitState:
    return LimitState(policy, 0, 2000, 60_000)


def decisions(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
    generate_latest(registry)
    found = {}
    for family in registry.collect():
        if family.name == "tollgate_admission_decisions":
            for sample in family.samples:
                if sample.name.endswith("_total"):
                    found[sample.labels["policy"], sample.labels["outcome"]] = sample.value
    return found


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    generate_latest(registry)
    return registry.get_sample_value(f"tollgate_admission_{name}", labels)


def test_admitted_counts_under_each_policy(
    registry: CollectorRegistry, counts: AdmissionCounts
) -> None:
    counts.decided(Decision(True, (room(FLOWS), room(FLEET, 90))))
    assert decisions(registry) == {("flows", "allowed"): 1, ("all_flows", "allowed"): 1}


def test_refused_counts_where_there_was_no_room_only(
    registry: CollectorRegistry, counts: AdmissionCounts
) -> None:
    counts.decided(Decision(False, (no_room(FLOWS), room(FLEET, 90))))
    assert decisions(registry) == {("flows", "denied"): 1}


def test_shadow_policies_count_what_they_would_have_denied(
    registry: CollectorRegistry, counts: AdmissionCounts
) -> None:
    counts.decided(Decision(True, (room(FLOWS), no_room(TRIAL))))
    assert decisions(registry) == {("flows", "allowed"): 1, ("trial", "shadow"): 1}


def test_admitted_by_this_workers_share_is_an_outcome_of_its_own(
    registry: CollectorRegistry, counts: AdmissionCounts
) -> None:
    counts.decided(Decision(True, (room(FLOWS),), degraded=True))
    assert decisions(registry) == {("flows", "local"): 1}


@pytest.mark.parametrize(("remaining", "near"), [(7, None), (6, 1.0), (0, 1.0)])
def test_near_the_limit_is_four_fifths_used(
    registry: CollectorRegistry, counts: AdmissionCounts, remaining: int, near: float | None
) -> None:
    counts.decided(Decision(True, (room(FLOWS, remaining),)))
    assert value(registry, "near_limit_total", policy="flows") == near


def test_trips_batches_and_what_went_wrong(
    registry: CollectorRegistry, counts: AdmissionCounts
) -> None:
    counts.round_trip(0.0007, 12)
    counts.local_denial()
    counts.indeterminate(12)
    counts.rules_refused()
    counts.rules_changed()
    assert value(registry, "round_trip_seconds_bucket", le="0.001") == 1
    assert value(registry, "round_trip_seconds_bucket", le="0.0005") == 0
    assert value(registry, "batch_size_sum") == 12
    assert value(registry, "local_denials_total") == 1
    assert value(registry, "indeterminate_total") == 12
    assert value(registry, "rules_reloads_total", outcome="refused") == 1
    assert value(registry, "rules_reloads_total", outcome="taken") == 1
