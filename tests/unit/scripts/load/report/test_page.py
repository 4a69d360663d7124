"""The page of a load test: what stands in it, and that nothing in a record can break it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scripts.load.record import Record, Verdict
from scripts.load.report import page, report
from tests.support.load_records import (
    admitted,
    generator,
    machine,
    requests,
    rich,
    sample,
    second,
    small,
)
from tests.support.load_strategies import HOSTILE, records

_VOID = {"meta", "br", "img", "input", "link", "hr"}
#: Of what may stand once in a page, and what may stand at all.
_ELSEWHERE = re.compile(r"^(https?:)?//", re.IGNORECASE)


class Reader(HTMLParser):
    """Notes what a browser would only forgive."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.drawn: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        given = dict(attrs)
        if len(set(names)) < len(names):
            self.faults.append(f"<{tag}> has an attribute twice: {names}")
        if any(name.startswith("on") for name in names):
            self.faults.append(f"<{tag}> has a handler: {names}")
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.drawn += [
            f"{name}={value}" for name, value in attrs if name in _DRAWN and value is not None
        ]
        where = given.get("href") or given.get("src") or ""
        if where.startswith("#"):
            self.targets.append(where[1:])
        elif where:
            self.faults.append(f"<{tag}> leads elsewhere: {where}")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes something else")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)


_DRAWN = {"d", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"}


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


def sound(text: str) -> Reader:
    reader = read(text)
    assert reader.faults == []
    assert reader.open == []
    assert len(set(reader.ids)) == len(reader.ids)
    assert set(reader.targets) <= set(reader.ids)
    assert reader.tags.count("script") == 1
    assert reader.tags.count("style") == 1
    assert reader.tags.count("h1") == 1
    bad = [found for found in reader.drawn if re.search(r"nan|inf|None|e[+-]", found)]
    assert bad == []
    return reader


def words(text: str) -> str:
    return " ".join(" ".join(read(text).texts).split())


def judged(record: Record, *verdicts: Verdict) -> Record:
    return record.model_copy(update={"verdicts": list(verdicts)})


def verdict(name: str, *, passed: bool, measure: str = "") -> Verdict:
    return Verdict(
        name=name, limit="at most 3", measured="5", passed=passed, measure=measure, bound=3.0
    )


@pytest.fixture(scope="module")
def whole() -> str:
    return report(rich(), rich(slower=0.8))


#: Without shrinking: a whole record takes minutes of it.
_ANY = settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.reuse, Phase.generate],
)


@given(record=records, baseline=st.none() | records)
@_ANY
def test_any_record_makes_a_sound_page(record: Record, baseline: Record | None) -> None:
    sound(report(record, baseline))


@given(found=st.lists(records, min_size=1, max_size=3))
@settings(_ANY, max_examples=6)
def test_any_records_make_a_sound_page(found: list[Record]) -> None:
    sound(page(found))


@pytest.mark.parametrize("text", HOSTILE)
def test_what_stands_in_a_record_is_shown_as_text(text: str) -> None:
    record = small(
        title=text,
        purpose=text,
        requests=[requests(text, text, None, kinds={"failed": 3}, problems={text: 3})],
        machine=machine(cpu=text, packages={text: text}),
    )
    shown = sound(report(record)).texts
    printable = re.sub("[\x00\x1b\x7f\ufffe]", "\N{REPLACEMENT CHARACTER}", text)
    assert sum(printable in found for found in shown) >= 5


def test_whole_page_is_sound_and_has_all_its_parts(whole: str) -> None:
    sound(whole)
    titles = re.findall(r"<h3[^>]*>([^<]*)", whole)
    assert titles == [
        "Not judged: there were no thresholds",
        "Traffic",
        "Latency",
        "Routes",
        "Limits",
        "Sales",
        "Errors",
        "What it cost",
        "The generator",
        "Beside the baseline",
        "What was run, and where",
    ]


def test_page_asks_nobody_for_anything(whole: str) -> None:
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!#)", whole)
    assert not re.search(r"@import|url\(", whole)


def test_failed_thresholds_stand_before_all_else() -> None:
    record = judged(
        rich(),
        verdict("kept", passed=True),
        verdict("broken", passed=False),
        verdict("lost", passed=False),
    )  # fmt: skip
    text = words(report(record))
    assert "Failed: 2 of 3 thresholds" in text
    first = text.index("Traffic", text.index("Failed: 2"))
    assert text.index("broken: 5 (limit: at most 3)") < first
    assert text.index("kept") > first
    assert "✗ failed" in text


def test_page_of_a_run_that_passed_says_so() -> None:
    text = words(report(judged(small(), verdict("kept", passed=True))))
    assert "✓ passed" in text
    assert "Passed: it holds to its only threshold" in text


def test_threshold_with_nothing_to_judge_does_not_count_as_held() -> None:
    held, idle = verdict("held", passed=True), verdict("idle", passed=True)
    idle = idle.model_copy(update={"judged": False})
    text = words(report(judged(small(), idle, held, held)))
    assert "Passed: all 2 thresholds hold" in text
    assert "1 more had nothing to judge here" in text
    table = text[text.index("Thresholds Thresholds and") :]
    assert table.index("idle") > table.rindex("held")
    assert "Not judged: no threshold had anything to judge" in words(report(judged(small(), idle)))


def test_run_without_thresholds_has_not_passed() -> None:
    text = words(report(small()))
    assert "Not judged: there were no thresholds" in text
    assert "passed" not in text


def test_crossed_threshold_marks_its_figure() -> None:
    marked = judged(small(), verdict("p99", passed=False, measure="p99_ms"))
    assert report(marked).count('class="tile bad"') == 1
    assert 'class="tile bad"' not in report(judged(small(), verdict("p99", passed=True)))


def test_threshold_is_drawn_over_the_latencies() -> None:
    bound = verdict("p99", passed=True, measure="p99_ms")
    assert 'class="bound"' in report(judged(small(), bound))
    of_route = bound.model_copy(update={"route": "GET /flows"})
    assert 'class="bound"' not in report(judged(small(), of_route))


def test_generator_that_fell_behind_is_told_before_any_figure() -> None:
    says = "It had no core left."
    text = words(report(small(generator=generator(bottleneck=True, says=says))))
    assert text.index("The generator was the bottleneck.") < text.index("Served a second")
    assert says in text
    assert "was the bottleneck" not in words(report(small()))


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


def test_lost_sales_and_findings_are_told(whole: str) -> None:
    text = words(whole)
    assert "✗ 1 lost" in text
    assert "✓ 0 doubled" in text
    assert "job 5d1f0c2e: paid at 0:49" in text


def test_changes_are_told_as_better_or_worse() -> None:
    slower = words(report(rich(slower=1.5), rich()))
    faster = words(report(rich(slower=0.5), rich()))
    assert "▲ +50 % worse" in slower
    assert "▼ −50 % better" in faster
    assert words(report(rich(), rich())).count("worse") == 0


def test_bound_that_held_twice_is_neither_better_nor_worse() -> None:
    now, then = (
        small(admissions=[admitted("flows", "all", worst_excess=excess)]) for excess in (-3.0, -9.0)
    )
    text = words(report(now, then))
    assert "held then too" in text
    assert "worse" not in text


def test_crossed_change_stands_beside_its_figure() -> None:
    crossed = Verdict(
        name="p99", limit="at most 1.2 × the baseline = 4 ms", measured="9 ms", passed=False,
        measure="p99_ms", against="baseline", bound=4.0,
    )  # fmt: skip
    text = report(judged(rich(slower=1.5), crossed), rich())
    row = re.search(r">p99</th>.*?</tr>", text[text.index("Beside the baseline") :], re.DOTALL)
    assert row is not None
    assert "✗ at most 1.2 × the baseline = 4 ms" in row[0]


def test_other_machine_of_the_baseline_is_told() -> None:
    before = rich().model_copy(update={"machine": machine(cores=64)})
    assert "cores: 64 then, 2 now" in words(report(rich(), before))
    assert "Not all was the same then" not in words(report(rich(), rich()))


def test_several_runs_are_one_page_with_ways_to_each() -> None:
    passed = judged(small(title="First"), verdict("kept", passed=True))
    failed = judged(small(title="Second"), verdict("kept", passed=False))
    text = page([passed, failed, passed])
    reader = sound(text)
    assert {"run1", "run2", "run3"} <= set(reader.targets)
    assert "3 load tests" in words(text)
    assert "✗ 1 failed" in words(text)
    assert "✓ all passed" in words(page([passed, passed]))
    assert "! not all judged" in words(page([passed, small()]))


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


def figure(text: str, title: str) -> str:
    """The picture with this title."""
    found: Iterable[str] = re.findall(r"<figure.*?</figure>", text, re.DOTALL)
    return next(one for one in found if f"<h4>{title}" in one)
