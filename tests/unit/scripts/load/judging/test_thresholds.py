"""What a run must hold to: each threshold can be kept, can be crossed, and fails when absent."""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts.load import scenario
from scripts.load.judging.measures import MEASURES
from scripts.load.judging.thresholds import (
    FILE,
    Threshold,
    Thresholds,
    ThresholdsUnreadable,
    judge,
    read,
)
from scripts.load.record import Costs, Event, Latency, Record, Reference, Sales, Verdict
from scripts.running import ROOT
from tests.support.load_records import (
    admitted,
    drawn,
    generator,
    latency,
    requests,
    rich,
    sample,
    second,
    small,
)


def one(record: Record, baseline: Record | None = None, **fields: Any) -> Verdict:
    [verdict] = judge(record, Thresholds(every={"it": fields}), baseline)
    return verdict


def of(values_ms: list[float]) -> Latency:
    found = latency(values_ms)
    assert found is not None
    return found


def sold(**fields: int) -> Sales:
    counts = dict.fromkeys(
        ("begun", "refused", "paid", "completed", "failed", "lost", "doubled", "wrong_hashes",
         "wrong_times"), 0,
    )  # fmt: skip
    return Sales(**{**counts, **fields}, findings=[], latency=None)


def measured(*values_ms: float, group: str = "all", route: str = "GET /flows") -> Any:
    return requests(group, route, of(list(values_ms)))


#: A record in which each measure has this value.
MEASURED: list[tuple[str, Record, float]] = [
    ("failed", small(requests=[requests("a", "b", None, kinds={"failed": 3, "ok": 1})]), 3),
    ("failed_share", small(requests=[requests("a", "b", None, kinds={"failed": 1, "ok": 3})]), 25),
    ("denied", small(requests=[requests("a", "b", None, kinds={"denied": 2})]), 2),
    ("denied_share", small(requests=[requests("a", "b", None, kinds={"denied": 2})]), 100),
    ("unavailable", small(requests=[requests("a", "b", None, kinds={"unavailable": 5})]), 5),
    (
        "unavailable_share",
        small(requests=[requests("a", "b", None, kinds={"unavailable": 1, "ok": 1})]),
        50,
    ),
    ("refused", small(requests=[requests("a", "b", None, kinds={"refused": 1})]), 1),
    (
        "unanswered",
        small(requests=[requests("a", "b", None, kinds={"failed": 3}, errors={"reset": 2})]),
        2,
    ),
    (
        "throughput",
        small(
            requests=[requests("a", "b", None, kinds={"ok": 6, "denied": 2, "failed": 9})],
            seconds=2.0,
        ),
        4,
    ),
    (
        "goodput",
        small(requests=[requests("a", "b", None, kinds={"ok": 6, "denied": 2})], seconds=2.0),
        3,
    ),
    (
        "goodput_share",
        small(seconds_of=[second(0, "a", due=8, kinds={"ok": 6, "denied": 2})]),
        75,
    ),
    ("p50_ms", small(requests=[measured(1, 2, 3)]), 2),
    ("p90_ms", small(requests=[measured(*range(1, 11))]), 9),
    ("p99_ms", small(requests=[measured(*range(1, 101))]), 99),
    ("p999_ms", small(requests=[measured(*range(1, 1001))]), 999),
    ("max_ms", small(requests=[measured(1, 7)]), 7),
    ("refusal_p99_ms", small(requests=[requests("a", "b", None, of([4.0]), kinds={})]), 4),
    (
        "worst_excess",
        small(
            admissions=[
                admitted("a", "x", worst_excess=0.2),
                admitted("b", "x", worst_excess=-4.0),
            ]
        ),
        0.2,
    ),
    (
        "fairness",
        small(admissions=[admitted("a", "x", fairness=0.7), admitted("b", "x", fairness=0.9)]),
        0.7,
    ),
    ("lost", small(sales=sold(begun=4, lost=2)), 2),
    ("doubled", small(sales=sold(begun=4, doubled=1)), 1),
    ("wrong", small(sales=sold(begun=4, wrong_hashes=1, wrong_times=2)), 3),
    ("completed_share", small(sales=sold(begun=4, paid=3, completed=3)), 75),
    (
        "sale_p99_ms",
        small(sales=sold(begun=1).model_copy(update={"latency": of([1234.0])})),
        1234,
    ),
    ("cpu_us", small(costs=Costs(cpu_us={"workers": 30, "redis": 4},
                                 redis_commands=None, redis_bytes=None, queries=None)), 34),
    ("redis_commands", small(costs=Costs(cpu_us={}, redis_commands=0.3, redis_bytes=None,
                                         queries=None)), 0.3),
    ("redis_bytes", small(costs=Costs(cpu_us={}, redis_commands=None, redis_bytes=99.0,
                                      queries=None)), 99),
    ("queries", small(costs=Costs(cpu_us={}, redis_commands=None, redis_bytes=None,
                                  queries=1.5)), 1.5),
    (
        "pool_share",
        small(samples=[sample(0, pool_in_use=30), sample(1, pool_in_use=10)]),
        75,
    ),
    ("events", small(samples=[sample(0)], events=[Event(at=0, kind="shed", text="12")]), 1),
    (
        "reference_gap",
        small(
            references=[
                Reference(program="ab", command="ab", per_second=100, p50_ms=None, p99_ms=None,
                          ours_per_second=88)
            ]
        ),
        12,
    ),
    ("generator", small(generator=generator(bottleneck=True)), 1),
]  # fmt: skip


def test_every_measure_is_tried() -> None:
    assert [name for name, _, _ in MEASURED] == list(MEASURES)


@pytest.mark.parametrize(("name", "record", "value"), MEASURED, ids=list(MEASURES))
def test_threshold_is_kept_at_its_limit_and_crossed_beyond(
    name: str, record: Record, value: float
) -> None:
    least = 0.02 * value  # what a histogram rounds
    assert one(record, measure=name, at_most=value + least).passed
    assert one(record, measure=name, at_least=value - least).passed
    above = one(record, measure=name, at_least=value + 2 * least)
    below = one(record, measure=name, at_most=value - 2 * least)
    assert above.judged
    assert below.judged
    assert not above.passed
    assert not below.passed


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "generator"])
def test_absent_value_fails_what_requires_it(name: str) -> None:
    nothing = small(requests=[], seconds_of=[])
    for bound in ({"at_most": 10**9}, {"at_least": 0}):
        required = one(nothing, measure=name, **bound)
        assert not required.passed
        assert not required.judged
        assert required.measured == "absent: nothing of this was measured"
        assert one(nothing, measure=name, required=False, **bound).passed


def test_requests_never_sent_did_not_succeed() -> None:
    unsent = small(requests=[requests("polite", "GET /flows", None, sent=0)])
    assert not one(unsent, measure="failed", at_most=0).passed
    assert not one(unsent, measure="denied", group="polite", at_most=0).passed


@pytest.mark.parametrize("name", ["lost", "doubled", "wrong", "completed_share"])
def test_no_sale_begun_is_none_well_done(name: str) -> None:
    assert not one(small(sales=sold()), measure=name, at_most=100).judged


def test_value_that_is_no_number_keeps_no_threshold() -> None:
    record = small(admissions=[admitted("a", "x", worst_excess=math.nan)])
    assert not one(record, measure="worst_excess", at_most=1).passed
    assert not one(record, measure="worst_excess", at_least=0).passed


def test_threshold_is_of_its_group_and_route_alone() -> None:
    record = small(
        requests=[
            measured(5, group="polite"),
            measured(50, group="abuser"),
            measured(20, group="polite", route="GET /health"),
        ]
    )
    assert one(record, measure="p99_ms", group="polite", at_most=21).passed
    assert not one(record, measure="p99_ms", at_most=21).passed
    assert one(record, measure="p99_ms", group="polite", route="GET /flows", at_most=6).passed
    assert not one(record, measure="p99_ms", route="GET /flows", at_most=6).passed
    assert not one(record, measure="p99_ms", group="nobody", at_most=6).judged


def test_percentile_of_several_routes_is_of_all_their_requests() -> None:
    quick, slow = [1.0] * 985, [100.0] * 15
    record = small(requests=[measured(*quick), measured(*slow, route="GET /health")])
    assert one(record, measure="p99_ms", at_least=99).passed
    assert one(record, measure="p90_ms", at_most=1.1).passed


def test_unreadable_histogram_counts_as_the_worst_it_may_be() -> None:
    broken = measured(7).model_copy(
        update={"latency": of([7]).model_copy(update={"histogram": "?"})}
    )
    record = small(requests=[measured(*[1.0] * 1000), broken])
    assert not one(record, measure="p99_ms", at_most=6).passed


def test_group_is_compared_with_another_of_the_same_run() -> None:
    fields = {"measure": "p99_ms", "group": "polite", "against": "alone", "at_most": 1.2}
    felt = small(requests=[measured(10, group="alone"), measured(12.5, group="polite")])
    verdict = one(felt, **fields)
    assert not verdict.passed
    assert verdict.limit.startswith("at most 1.2 × alone = 12")
    assert one(felt, **fields, slack=1).passed
    unfelt = small(requests=[measured(10, group="alone"), measured(11.5, group="polite")])
    assert one(unfelt, **fields).passed


def test_comparison_without_the_other_group_fails() -> None:
    record = small(requests=[measured(10, group="polite")])
    verdict = one(record, measure="p99_ms", group="polite", against="alone", at_most=1.2)
    assert not verdict.passed
    assert "nothing to compare with" in verdict.measured


def test_baseline_is_compared_only_when_there_is_one() -> None:
    fields = {"measure": "goodput", "against": "baseline", "at_least": 0.9}
    assert judge(small(), Thresholds(every={"it": fields})) == []
    half = small(requests=[requests("all", "GET /flows", drawn(1, 50, 4.0))])
    assert one(small(), small(), **fields).passed
    assert not one(half, small(), **fields).passed
    assert one(half, small(), **fields).against == "baseline"


def test_each_route_has_a_verdict_of_its_own() -> None:
    now = small(requests=[measured(10, route="a"), measured(30, route="b")])
    before = small(requests=[measured(10, route="a"), measured(10, route="b")])
    fields = {"measure": "p99_ms", "each": "route", "against": "baseline", "at_most": 1.5}
    found = judge(now, Thresholds(every={"it": fields}), before)
    assert [(v.route, v.passed) for v in found] == [("a", True), ("b", False)]
    assert len({v.name for v in found}) == 2


def test_new_route_has_no_past_and_a_lost_one_fails() -> None:
    now = small(requests=[measured(10, route="new")])
    before = small(requests=[measured(10, route="old")])
    fields = {"measure": "p99_ms", "each": "route", "against": "baseline", "at_most": 1.5}
    found = {v.route: v for v in judge(now, Thresholds(every={"it": fields}), before)}
    assert found["new"].passed
    assert not found["new"].judged
    assert not found["old"].passed


def test_speed_is_not_judged_when_the_generator_was_the_bottleneck() -> None:
    held_back = small(generator=generator(bottleneck=True, says="No core left."))
    for name in ("p50_ms", "p99_ms", "max_ms"):
        verdict = one(held_back, measure=name, at_most=10**6)
        assert not verdict.passed
        assert not verdict.judged
        assert "not judged: the generator was the bottleneck" in verdict.measured
    assert one(held_back, measure="failed", at_most=0).passed
    assert one(held_back, measure="generator", at_most=0).measured == "No core left."


def test_rate_reached_in_spite_of_the_generator_counts() -> None:
    held_back = small(generator=generator(bottleneck=True))
    assert one(held_back, measure="goodput", at_least=100).passed
    missed = one(held_back, measure="goodput", at_least=101)
    assert not missed.passed
    assert not missed.judged
    assert not one(held_back, measure="goodput", at_most=10**6).judged


def test_scenario_adds_to_what_holds_for_every_and_changes_it_by_name() -> None:
    thresholds = Thresholds(
        every={
            "failed": {"measure": "failed", "at_most": 0},
            "lost": {"measure": "lost", "at_most": 0, "required": False},
        },
        scenario={
            "sell": {
                "lost": {"required": True},
                "failed": {"off": True, "why": "it breaks things on purpose"},
                "p99": {"measure": "p99_ms", "at_most": 50},
            }
        },
    )
    assert [t.measure for t in thresholds.of("browse")] == ["failed", "lost"]
    assert [(t.measure, t.required) for t in thresholds.of("sell")] == [
        ("lost", True),
        ("p99_ms", True),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[every.a]\nmeasure = 'p98_ms'\nat_most = 1", "no measure 'p98_ms'"),
        ("[every.a]\nmeasure = 'p99_ms'", "one of at_most and at_least"),
        ("[every.a]\nmeasure = 'p99_ms'\nat_most = 1\nat_least = 1", "one of at_most and at_least"),
        ("[every.a]\nmeasure = 'p99_ms'\nat_most = nan", "finite number"),
        ("[every.a]\nmeasure = 'p99_ms'\natmost = 1\nat_most = 1", "atmost"),
        ("[every.a]\nmeasure = 'p99_ms'\nat_most = 1\nslack = 1", "slack is for what is compared"),
        ("[every.a]\nmeasure = 'p99_ms'\nat_most = 1\noff = true", "must say why"),
        (
            "[every.a]\nmeasure = 'p99_ms'\nat_most = 1\neach = 'route'\nroute = 'x'",
            "exclude each other",
        ),
        ("[scenario.sell.a]\nat_most = 1", "[scenario.sell.a] measure"),
        ("[elsewhere]\na = 1", "elsewhere"),
        ("[every.a", "can not be read"),
    ],
)
def test_file_that_is_wrong_says_where(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "thresholds.toml"
    file.write_text(text)
    with pytest.raises(ThresholdsUnreadable) as caught:
        read(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ThresholdsUnreadable, match="can not be read"):
        read(tmp_path / "none.toml")


def test_own_file_speaks_of_scenarios_and_groups_there_are() -> None:
    kept = tomllib.loads(FILE.read_text())
    assert set(kept["scenario"]) <= set(scenario.names())
    for name in scenario.names():
        groups = {group.name for group in scenario.read(name).groups}
        for threshold in read().of(name):
            named = {threshold.group, threshold.against} - {None, "baseline"}
            assert named <= groups, f"{name}: {threshold}"


def test_own_file_judges_every_scenario_by_failures_and_speed() -> None:
    for name in scenario.names():
        judged = {threshold.measure for threshold in read().of(name) if threshold.required}
        assert "failed" in judged
        assert judged & {"p99_ms", "goodput"}, name


def test_page_tells_every_measure_and_field() -> None:
    page = (ROOT / "docs" / "load-report.md").read_text()
    rows = "\n".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) == {*MEASURES, *Threshold.model_fields}


def test_seeded_faults_fail_the_run() -> None:
    def judged(**fields: Any) -> set[str]:
        record = rich().model_copy(update={"scenario": "soak", **fields})
        return {v.measure for v in judge(record, read()) if not v.passed}

    over = [admitted("flows", "polite", worst_excess=1.5)]
    assert "worst_excess" in judged(admissions=over)
    assert "worst_excess" in judged(admissions=[])
    assert "lost" in judged(sales=sold(begun=3, paid=3, completed=2, lost=1))
    assert "lost" in judged(sales=None)
    slow = [measured(*[400.0] * 50, group="visitors")]
    assert "p99_ms" in judged(requests=slow)
    assert not {"p99_ms", "failed"} & judged(requests=[measured(3, group="visitors")])
