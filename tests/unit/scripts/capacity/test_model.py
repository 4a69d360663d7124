"""From demand to fleet: what must hold whatever the numbers, and some that are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from scripts.capacity.coefficients import read
from scripts.capacity.model import calls, load_of, plan, workers_for
from scripts.capacity.models import Demand, Load

COST = read(Path(__file__).with_name("coefficients.toml"))
USUAL = Demand(rate=10_000, principals=5_000, jobs=5)

DEMANDS = some.builds(
    lambda rate, principals, jobs, paid, denied, flows: Demand(
        rate=rate, principals=principals, jobs=jobs * rate * (1 - denied), paid=paid,
        denied=denied, flows=flows,
    ),
    rate=some.floats(1, 1e6),
    principals=some.integers(1, 10_000_000),
    jobs=some.floats(0, 0.01),
    paid=some.floats(0, 1),
    denied=some.floats(0, 0.9),
    flows=some.integers(0, 100_000),
)  # fmt: skip


def figures(load: Load) -> list[float]:
    return [getattr(load, name) for name in Load.__dataclass_fields__]


@given(DEMANDS)
def test_no_request_is_lost_between_the_routes(demand: Demand) -> None:
    assert sum(demand.by_route.values()) + demand.jobs == pytest.approx(demand.rate)


@given(DEMANDS, some.floats(1.0, 50.0))
def test_more_of_the_same_load_never_takes_less(demand: Demand, times: float) -> None:
    more = replace(demand, rate=demand.rate * times, jobs=demand.jobs * times)
    less_plan, more_plan = plan(demand, COST), plan(more, COST)
    assert less_plan.workers <= more_plan.workers
    assert less_plan.redis_shards <= more_plan.redis_shards
    assert less_plan.connections <= more_plan.connections
    for before, after in zip(figures(less_plan.load), figures(more_plan.load), strict=True):
        assert before <= after * (1 + 1e-9)


@given(DEMANDS)
def test_more_principals_never_take_less(demand: Demand) -> None:
    more = replace(demand, principals=demand.principals * 10)
    assert workers_for(demand, COST) <= workers_for(more, COST)
    less_load, more_load = load_of(demand, COST, 4), load_of(more, COST, 4)
    assert less_load.redis_calls <= more_load.redis_calls * (1 + 1e-9)
    assert less_load.redis_mib < more_load.redis_mib


@given(DEMANDS)
def test_workers_are_enough_and_one_fewer_would_not_be(demand: Demand) -> None:
    found = plan(demand, COST)
    share = COST.limits.worker_share
    assert found.load.worker_cores <= found.workers * share * (1 + 1e-9)
    if found.workers > 1:
        fewer = load_of(demand, COST, found.workers - 1)
        short_of_cores = fewer.worker_cores > (found.workers - 1) * share
        assert short_of_cores or fewer.runs > (found.workers - 1) * COST.limits.worker_runs


@given(DEMANDS)
def test_what_breaks_first_comes_first_and_the_plan_mends_what_it_can(demand: Demand) -> None:
    found = plan(demand, COST)
    used = [one.used for one in found.bottlenecks]
    assert used == sorted(used, reverse=True)
    assert [one.resource for one in found.bottlenecks if one.added and one.used > 1 + 1e-9] == []


@given(some.floats(1, 1e5), some.integers(1, 10_000_000))
def test_calls_are_never_more_than_requests(rate: float, principals: int) -> None:
    assert 0 < calls(rate, principals, COST) <= rate * (1 + 1e-9)


def test_denied_requests_never_reach_redis() -> None:
    open_, half = USUAL, replace(USUAL, denied=0.5)
    one, other = load_of(open_, COST, 4), load_of(half, COST, 4)
    idle = 4 * COST.idle.redis_calls + USUAL.jobs * COST.paid_job.redis_calls
    assert other.redis_calls - idle == pytest.approx((one.redis_calls - idle) / 2, rel=0.05)


def test_one_principal_shares_its_calls() -> None:
    alone = load_of(replace(USUAL, principals=1, jobs=0), COST, 1)
    many = load_of(replace(USUAL, principals=100_000, jobs=0), COST, 1)
    assert many.redis_calls > 5 * alone.redis_calls


def test_cost_by_hand_of_a_load_of_one_route() -> None:
    """1,000 /health a second of as many principals: nothing but requests, calls and idling."""
    demand = Demand(rate=1_000, principals=10**9, jobs=0, flows=0, mix={"health": 1.0})
    load = load_of(demand, COST, 1)
    contention = 1 + 0.02 * (COST.limits.workers_per_replica - 1)
    request_us = COST.routes["health"].worker_us + COST.admission.worker_call_us
    worker_us = 1_000 * request_us * contention + COST.idle.worker_us
    assert load.worker_cores == pytest.approx(worker_us / 1e6)
    assert load.redis_calls == pytest.approx(1_000 + COST.idle.redis_calls)
    assert load.redis_mbit == pytest.approx(load.redis_calls * COST.admission.call_bytes * 8 / 1e6)
    assert load.queries == COST.idle.queries
    assert (load.commits, load.told, load.payment_calls) == (0, 0, 0)


def test_memory_in_redis_is_that_of_buckets_and_flows() -> None:
    one = load_of(replace(USUAL, flows=0), COST, 1).redis_mib
    more = load_of(replace(USUAL, flows=0, principals=USUAL.principals + 1_000_000), COST, 1)
    # Five classes of routes, and the one that begins jobs.
    assert (more.redis_mib - one) * 2**20 == pytest.approx(6e6 * COST.admission.bucket_bytes)


def test_jobs_cost_by_their_kind() -> None:
    def told(paid: float) -> float:
        return load_of(replace(USUAL, jobs=10, paid=paid), COST, 1).told

    assert told(0) == pytest.approx(10 * COST.free_job.told)
    assert told(1) == pytest.approx(10 * COST.paid_job.told)
    assert load_of(replace(USUAL, jobs=10, paid=0), COST, 1).payment_calls == 0


def test_long_runs_need_places_though_workers_idle() -> None:
    demand = Demand(rate=10, jobs=10, run_s=60)
    assert workers_for(demand, COST) >= 600 / COST.limits.worker_runs


def test_ten_thousand_sales_a_second_break_postgresql_first_of_what_is_fixed() -> None:
    limits = COST.limits.model_copy(update={"payment_calls_per_s": 1e9})
    cost = COST.model_copy(update={"limits": limits})
    found = plan(Demand(rate=100_000, jobs=10_000, paid=0), cost, pooled=True)
    assert not found.holds
    assert found.first_fixed.resource in {
        "PostgreSQL, commits that notify",
        "PostgreSQL, connections",
        "PostgreSQL, processor",
    }


def test_pgbouncer_leaves_a_connection_for_each_worker() -> None:
    without, with_it = plan(USUAL, COST), plan(USUAL, COST, pooled=True)
    processes = without.replicas * COST.limits.workers_per_replica
    assert without.connections == processes * COST.limits.worker_connections + 30
    assert with_it.connections == processes + 40 + 30


def test_given_fleet_is_judged_as_it_is() -> None:
    found = plan(replace(USUAL, rate=100_000), COST, workers=2, shards=1)
    assert (found.workers, found.redis_shards) == (2, 1)
    assert found.bottlenecks[0].resource == "workers"
    assert not found.holds
    assert found.p99_ms == float("inf")


@pytest.mark.parametrize(
    "wrong",
    [{"rate": 0}, {"principals": 0}, {"jobs": 11_000}, {"paid": 1.5}, {"denied": 1.0}, {"mix": {}}],
)
def test_demand_that_can_not_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"."):
        replace(USUAL, **wrong)
