"""What the operations page is sent, from what the parts know."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from service.admission.published import Change
from service.api.handlers.ops import STATIC
from service.api.ops_rendering import changes_view, numbers_view, sample_view
from service.breaker.models import Event, Transition
from service.fleet.models import BOUNDS_S, Numbers, Sample
from service.health import Mode

START = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def at(bound: float, number: float = 1.0) -> tuple[float, ...]:
    return tuple(number if top == bound else 0.0 for top in (*BOUNDS_S, None))


def event(minute: int, cause: str, *, by: str = "", seconds: float = 0.0) -> Event:
    made = Transition("closed", "open", cause)
    return Event(START + timedelta(minutes=minute), made, 1, "w1", by, "because", seconds)


def test_times_of_the_whole_leave_out_those_who_wait_for_news() -> None:
    numbers = Numbers(seconds={"flows": at(0.01), "health": at(0.025), "status": at(30.0, 50)})
    view = numbers_view(numbers, at_ms=1, workers=2, lag_ms=0.5)
    assert view.latency["status"].p50_ms is not None
    assert view.latency["status"].p50_ms > 10_000
    assert view.latency["all"].p99_ms is not None
    assert 10 < view.latency["all"].p99_ms <= 25
    assert view.latency["flows"].p50_ms == 7.5


def test_times_of_nothing_are_not_known() -> None:
    view = sample_view(Sample(12.5, 3, 0.5, Numbers()))
    assert (view.at_ms, view.workers) == (12_500, 3)
    assert view.latency["all"].p50_ms is None


def test_what_was_done_by_hand_is_in_one_list_the_latest_first() -> None:
    events = [
        event(9, "reset", by="nora"), event(7, "failures"),
        event(5, "forced", by="nora", seconds=60.0),
    ]  # fmt: skip
    changes = [Change(START + timedelta(minutes=6), "otto", "apply", "version 7")]
    shown = [(change.who, change.what, change.detail) for change in changes_view(events, changes)]
    assert shown == [
        ("nora", "breaker: reset", "because"),
        ("otto", "limits: apply", "version 7"),
        ("nora", "breaker: forced open for 60 s", "because"),
    ]


def test_page_has_words_for_every_degraded_mode_and_for_no_other() -> None:
    words = (STATIC / "words.js").read_text(encoding="utf-8")
    table = words.split("export const MODES = {", 1)[1].split("};", 1)[0]
    assert set(re.findall(r"^  (\w+):", table, flags=re.MULTILINE)) == set(map(str, Mode))
