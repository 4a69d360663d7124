"""The pictures of a load test's page, and what its limits table tells."""

from __future__ import annotations

import re

import pytest

from scripts.load.report import report
from tests.support.load_pages import figure, judged, read, verdict, words
from tests.support.load_records import admitted, requests, rich, sample, second, small


@pytest.fixture(scope="module")
def whole() -> str:
    return report(rich(), rich(slower=0.8))


def test_threshold_is_drawn_over_the_latencies() -> None:
    bound = verdict("p99", passed=True, measure="p99_ms")
    assert 'class="bound"' in report(judged(small(), bound))
    of_route = bound.model_copy(update={"route": "GET /flows"})
    assert 'class="bound"' not in report(judged(small(), of_route))


def test_every_kind_of_answer_is_a_band_with_its_share(whole: str) -> None:
    chart = figure(whole, "Answers a second")
    assert re.findall(r'class="band (k-\w+)" d=', chart) == [
        "k-ok",
        "k-denied",
        "k-unavailable",
        "k-failed",
    ]
    assert "denied (429)27,147 (76.7 %)" in "".join(read(chart).texts)


def test_bands_stand_upon_each_other() -> None:
    record = small(
        seconds=2.0,
        seconds_of=[
            second(0, "all", due=4, kinds={"ok": 3, "failed": 1}),
            second(1, "all", due=4, kinds={"ok": 1, "failed": 3}),
        ],
    )
    bands = re.findall(r'class="band k-\w+" d="M([^"]*)Z"', figure(report(record), "Answers a sec"))
    ok, failed = ([corner.split() for corner in band.split("L")] for band in bands)
    # Along the top, then back along the foot: what one has as its top is the other's foot.
    assert ok[:4] == failed[4:][::-1]
    assert [x for x, _ in ok[:4]] == ["0.0", "500.0", "500.0", "1000.0"]
    heights = [168 - float(y) for _, y in failed[:4]]
    assert heights[0] == pytest.approx(heights[2])
    assert float(ok[0][1]) == pytest.approx(168 - 0.75 * heights[0], abs=0.1)


def test_thin_refusals_get_a_picture_of_their_own() -> None:
    record = small(
        seconds_of=[second(0, "all", due=100, kinds={"ok": 95, "unavailable": 5})],
    )
    assert "Of these not served, a second" in words(report(record))
    most = small(seconds_of=[second(0, "all", due=100, kinds={"ok": 5, "unavailable": 95})])
    assert "Of these not served, a second" not in words(report(most))


def test_events_are_marks_in_every_picture_over_time(whole: str) -> None:
    marks = re.findall(r'<figure class="chart timed".*?</figure>', whole, re.DOTALL)
    assert len(marks) > 8
    for picture in marks:
        if ">Events<" not in picture:
            assert 'class="mark e-breaker"' in picture
    assert "payment: closed → open (5 failures)" in words(whole)
    assert 'class="state open"' in figure(whole, "Events")


def test_curve_of_a_route_has_its_baseline_beside_it(whole: str) -> None:
    picture = figure(whole, "GET /flows<")
    assert re.findall(r'class="line (s\d)" d="M[^"]*L', picture) == ["s0", "s4"]
    assert "99 %" in words(picture)
    alone = figure(report(rich()), "GET /flows<")
    assert re.findall(r'class="line (s\d)" d="M[^"]*L', alone) == ["s0"]


def test_groups_that_ask_for_the_same_are_compared_in_one_picture(whole: str) -> None:
    picture = figure(whole, "GET /{flow}/status<")
    assert re.findall(r'class="line (s\d)" d="M[^"]*L', picture) == ["s1", "s0"]
    assert re.findall(r'<th scope="col"[^>]*>([^<]*)', picture) == [
        "Percentile",
        "abuser",
        "polite",
    ]


def test_point_that_stands_alone_is_a_dot() -> None:
    alone = figure(report(small()), "Latency of what was served")
    assert len(re.findall(r'class="line dot s\d" d="M500.0 [\d.]+h.1"', alone)) == 3


def test_route_without_a_readable_histogram_has_no_curve_and_keeps_its_row() -> None:
    record = small()
    latency = record.requests[0].latency
    assert latency is not None
    broken = latency.model_copy(update={"histogram": "AAAA"})
    text = report(small(requests=[requests("all", "GET /flows", broken)]))
    assert "By percentile" not in text
    assert "GET /flows" in words(text)


def test_policy_above_its_bound_is_marked() -> None:
    within = admitted("flows", "all", worst_excess=1.0)
    above = admitted("status", "all", worst_excess=1.01)
    text = words(report(small(admissions=[within, above])))
    rows = text[text.index("Admitted against the bound") :]
    assert rows.index("status") < rows.index("flows")
    assert rows.count("✗ above") == rows.count("✓ within") == 1
    assert "1.01 tokens above the bound" in rows


def test_limits_that_held_are_told_by_how_near_it_was() -> None:
    kept = words(report(small(admissions=[admitted("flows", "all", worst_excess=-8.51)])))
    assert "Above the bound none nearest: 8.51 tokens below" in kept
    above = words(report(small(admissions=[admitted("flows", "all", worst_excess=0.4)])))
    assert "Above the bound 0.4 tokens, in the worst window" in above


@pytest.mark.parametrize(
    ("rate_per_s", "shown"),
    [(1.0, "1/second"), (0.5, "30/minute"), (1 / 600, "6/hour"), (0.7777, "0.778/second")],
)
def test_rates_of_policies_read_as_in_their_file(rate_per_s: float, shown: str) -> None:
    text = words(report(small(admissions=[admitted("flows", "all", rate_per_s=rate_per_s)])))
    assert f"{shown}, burst 60" in text


def test_uneven_shares_are_marked_only_where_somebody_was_denied() -> None:
    uneven = {"fairness": 0.5, "admitted": 50}
    denied = report(small(admissions=[admitted("flows", "all", offered=51, **uneven)]))
    asked_less = report(small(admissions=[admitted("flows", "all", offered=50, **uneven)]))
    assert '<span class="badge warn">0.500</span>' in denied
    assert '<span class="badge">0.500</span>' in asked_less


def test_run_of_hours_is_thinned_to_what_a_picture_shows() -> None:
    long = report(rich(seconds=4000))
    cells = re.findall(r'data-at="([\d.]+)"', figure(long, "Answers a second"))
    assert len(cells) <= 240
    assert float(cells[1]) - float(cells[0]) == 30
    assert "Each point is 30 s" in words(long)


def test_breaks_in_what_was_seen_are_breaks_in_its_line() -> None:
    seen = [sample(float(at)) for at in (0, 1, 2, 3, 20, 21, 22)]
    chart = figure(report(small(seconds=23.0, samples=seen)), "Requests in flight")
    line = re.search(r'class="line s0" d="(M[^"]*)"></path></svg><g', chart)
    assert line is not None
    assert line[1].count("M") == 2


def test_count_that_fell_is_not_drawn_as_a_rate() -> None:
    restarted = [sample(0.0, queries=0), sample(1.0, queries=500), sample(2.0, queries=3)]
    chart = figure(report(small(seconds=3.0, samples=restarted)), "Redis commands and queries")
    assert "500" in words(chart)
    assert "−" not in words(chart)
