"""The page of a load test: what stands in it, and that nothing in a record can break it."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scripts.load.record import Record, Verdict
from scripts.load.report import page, report
from tests.support.load_pages import judged, sound, verdict, words
from tests.support.load_records import admitted, generator, machine, requests, rich, small
from tests.support.load_strategies import HOSTILE, records


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


def test_generator_that_fell_behind_is_told_before_any_figure() -> None:
    says = "It had no core left."
    text = words(report(small(generator=generator(bottleneck=True, says=says))))
    assert text.index("The generator was the bottleneck.") < text.index("Served a second")
    assert says in text
    assert "was the bottleneck" not in words(report(small()))


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
