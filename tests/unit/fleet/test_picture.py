"""Many reports become one picture, and buckets become quantiles."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from service.fleet.codec import (
    MOST_BYTES,
    report_bytes,
    report_from,
    sample_bytes,
    sample_from,
)
from service.fleet.models import (
    BOUNDS_S,
    Denied,
    Identity,
    Numbers,
    Report,
    Sample,
    Seen,
    Use,
)
from service.fleet.picture import picture_of, quantile, total

EMPTY = (0.0,) * (len(BOUNDS_S) + 1)


def report(worker: str = "w1", *, replica: str = "a:8000", **changes: object) -> Report:
    identity = Identity(worker, replica, 7, "1.2.3", "all", 1000.0)
    return replace(Report(identity, Numbers()), **changes)  # type: ignore[arg-type]


def buckets(*seconds: float) -> tuple[float, ...]:
    found = list(EMPTY)
    for value in seconds:
        found[next((i for i, top in enumerate(BOUNDS_S) if value <= top), len(BOUNDS_S))] += 1
    return tuple(found)


def test_numbers_of_workers_are_added() -> None:
    one = Numbers(
        traffic={"flows": {"2xx": 3.0, "429": 1.0}},
        seconds={"flows": buckets(0.02, 0.02)},
        decisions={"flows": {"allowed": 3.0}},
        cache={"local_hit": 2.0},
        payments={"ok": 0.5},
        in_flight=2,
        pool=Use(3, 20, 1),
    )
    other = Numbers(
        traffic={"flows": {"2xx": 1.0}, "status": {"5xx": 2.0}},
        seconds={"flows": buckets(0.02)},
        decisions={"flows": {"denied": 4.0}},
        cache={"local_hit": 1.0, "local_miss": 1.0},
        in_flight=1,
        pool=Use(1, 20, 0),
    )
    both = total([one, other])
    assert both.traffic == {"flows": {"2xx": 4.0, "429": 1.0}, "status": {"5xx": 2.0}}
    assert sum(both.seconds["flows"]) == 3
    assert both.decisions == {"flows": {"allowed": 3.0, "denied": 4.0}}
    assert both.cache == {"local_hit": 3.0, "local_miss": 1.0}
    assert both.payments == {"ok": 0.5}
    assert (both.in_flight, both.pool) == (3, Use(4, 40, 1))


def test_jobs_of_the_fleet_are_told_by_many_and_counted_once() -> None:
    told = total([Numbers(jobs={"running": 5}), Numbers(jobs={"running": 6}), Numbers()])
    assert told.jobs == {"running": 6}


def test_buckets_of_another_version_are_left_out() -> None:
    odd = Numbers(seconds={"flows": (1.0, 2.0)})
    assert sum(total([Numbers(seconds={"flows": buckets(0.02)}), odd]).seconds["flows"]) == 1


def test_picture_tells_modes_denied_and_the_worst_delay() -> None:
    first = report("w1", modes=("redis_away",), lag_ms=3.0, denied=(Denied("address", "aa", 5.0),))
    second = report(
        "w2",
        replica="b:8000",
        modes=("redis_away", "payment_open"),
        lag_ms=40.0,
        denied=(Denied("address", "bb", 20.0), Denied("address", "aa", 30.0)),
    )
    picture = picture_of([Seen(second, 0.1), Seen(first, 0.2)], whole=True)
    assert picture.modes == {"payment_open": 1, "redis_away": 2}
    assert picture.denied == (Denied("address", "aa", 35.0), Denied("address", "bb", 20.0))
    assert picture.lag_ms == 40.0
    assert [seen.report.identity.worker for seen in picture.workers] == ["w1", "w2"]


def test_quantiles_lie_in_the_bucket_of_the_true_ones() -> None:
    numbers = random.Random(1)
    for _ in range(50):
        values = sorted(numbers.lognormvariate(-4, 1.5) for _ in range(500))
        for share in (0.5, 0.95, 0.99):
            told = quantile(buckets(*values), share)
            true = values[min(len(values) - 1, int(share * len(values)))]
            assert told is not None
            place = next((i for i, top in enumerate(BOUNDS_S) if true <= top), len(BOUNDS_S) - 1)
            lower = BOUNDS_S[place - 2] if place > 1 else 0.0
            assert lower <= told <= BOUNDS_S[min(place + 1, len(BOUNDS_S) - 1)]


@pytest.mark.parametrize(
    ("values", "share", "told"),
    [((), 0.5, None), ((99.0,), 0.5, 30.0), ((0.02, 0.02), 0.5, 0.0175), ((0.02,), 1.0, 0.025)],
)
def test_quantile_of_little(values: tuple[float, ...], share: float, told: float | None) -> None:
    assert quantile(buckets(*values), share) == (None if told is None else pytest.approx(told))


def test_reports_and_samples_come_back_as_they_went() -> None:
    numbers = Numbers(
        traffic={"flows": {"2xx": 1.5}}, seconds={"flows": buckets(0.2)}, jobs={"a": 1}
    )
    told = report(numbers=numbers, denied=(Denied("key", "cc", 1.0),), modes=("redis_away",))
    assert report_from(report_bytes(told)) == told
    sample = Sample(12.5, 3, 1.0, numbers)
    assert sample_from(sample_bytes(sample), 12.5) == sample


def test_what_cannot_be_read_is_none_and_what_is_more_is_passed_over() -> None:
    raw = report_bytes(report())
    assert report_from(raw[:-1] + b',"of_tomorrow":[1]}') == report()
    for odd in (b"", b"[]", b'{"identity":7}', b"\xff"):
        assert report_from(odd) is None
        assert sample_from(odd, 1.0) is None


def test_report_and_sample_are_bounded_whatever_the_rulebook_holds() -> None:
    many = {f"policy_{i}": {"allowed": 1.123, "denied": 2.345} for i in range(2000)}
    numbers = Numbers(decisions=many, traffic=many, pool=Use(1, 2, 3))
    raw = report_bytes(report(numbers=numbers))
    assert len(raw) <= MOST_BYTES
    left = report_from(raw)
    assert left is not None
    assert left.numbers.pool == Use(1, 2, 3)
    assert len(sample_bytes(Sample(1.0, 1, 1.0, numbers))) <= MOST_BYTES
