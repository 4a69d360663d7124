"""Who is let in, who is turned away, and what is said of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service.overload import overload as overload_module
from service.overload.bound import GREEDY
from service.overload.models import SHARES, Priority, priority_of
from service.overload.overload import LATEST_S, LOOK_S, QUIET_S, Overload
from service.settings import LimitSettings, OverloadSettings

LONG_S = 1.0
SETTINGS = OverloadSettings()


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


class Seen:
    """What the metrics are told."""

    def __init__(self) -> None:
        self.refused: Counter[tuple[str, str]] = Counter()

    def delayed(self, seconds: float) -> None:
        assert seconds >= 0

    def shed(self, priority: str, reason: str) -> None:
        self.refused[priority, reason] += 1


class Desk:
    """An Overload whose clock and delays are ours."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.seen = Seen()
        self.aside = 0
        self.connection_delay_s = 0.0
        self.overload = Overload(
            SETTINGS,
            self.seen,
            aside={Priority.STATUS: lambda: self.aside},
            connection_delay_s=lambda: self.connection_delay_s,
        )

    def look(self, delay_s: float = 0.0, times: int = 1) -> None:
        for _ in range(times):
            for _ in range(2):
                self.clock.now_s += LOOK_S
                self.overload.sample(delay_s)

    def fill(self, priority: Priority, principal: str = "ip:192.0.2.1", tries: int = 2000) -> int:
        """How many come in."""
        return sum(self.overload.enter(priority, principal) is None for _ in range(tries))

    def leave(self, priority: Priority, number: int) -> None:
        for _ in range(number):
            self.overload.leave(priority)

    def overloaded(self, limit: int) -> None:
        """So many at once are let in from here on, and none is in."""
        self.fill(Priority.READ, tries=2 * limit)
        self.look(LONG_S)
        self.leave(Priority.READ, 2 * limit)
        assert self.overload.status().limit == limit

    def database_busy(self, limit: int) -> None:
        self.fill(Priority.INPUT, tries=2 * limit)
        self.connection_delay_s = LONG_S
        self.look()
        self.connection_delay_s = 0.0
        self.leave(Priority.INPUT, 2 * limit)
        assert self.overload.status().database_limit == limit


@pytest.fixture
def desk() -> Iterator[Desk]:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(overload_module, "time", clock)
        yield Desk(clock)


def test_all_are_let_in_while_nobody_waits(desk: Desk) -> None:
    desk.look(0.001, times=10)
    assert desk.fill(Priority.SALE, tries=5000) == 5000


def test_each_kind_has_its_part_of_the_limit(desk: Desk) -> None:
    desk.overloaded(100)
    for priority in Priority:
        came = desk.fill(priority)
        assert came == round(100 * SHARES[priority])
        desk.leave(priority, came)
    assert list(SHARES.values()) == sorted(SHARES.values())


def test_sales_go_first_and_reads_of_what_is_cached_last(desk: Desk) -> None:
    """All kinds count together: what the cheap ones fill is not there for sales."""
    desk.overloaded(100)
    assert desk.fill(Priority.READ, tries=60) == 60
    assert desk.fill(Priority.SALE) == 0
    assert desk.fill(Priority.INPUT) == 10
    assert desk.fill(Priority.STATUS) == 30
    assert desk.fill(Priority.READ) == 100
    assert desk.seen.refused["sale", "worker"] == 2000


def test_who_waits_for_others_is_not_in_the_way(desk: Desk) -> None:
    desk.overloaded(100)
    assert desk.fill(Priority.STATUS) == 100
    desk.aside = 100  # all of them wait for news of their jobs
    assert desk.fill(Priority.SALE) == 50


def test_a_crowd_that_only_waits_for_others_makes_no_limit(desk: Desk) -> None:
    desk.fill(Priority.STATUS, tries=3000)
    desk.aside = 3000 - SETTINGS.least_requests
    desk.look(LONG_S, times=5)
    assert desk.overload.status().limit is None


def test_short_of_connections_those_who_need_one_are_turned_away_and_no_others(desk: Desk) -> None:
    desk.database_busy(100)
    assert desk.overload.status().limit is None
    assert desk.fill(Priority.READ, tries=500) == 500  # which take no place of those
    assert desk.fill(Priority.SALE) == 50
    assert desk.fill(Priority.INPUT) == 20
    for priority in (Priority.STATUS, Priority.READ, Priority.OTHER):
        assert desk.fill(priority) == 2000
    assert set(desk.seen.refused) == {("sale", "database"), ("input", "database")}
    assert desk.overload.enter(Priority.SALE, "ip:192.0.2.1") == "database"
    desk.look()
    assert not desk.overload.status().shedding  # the database's own mode says so


def test_who_waits_for_news_hides_no_queue_for_connections(desk: Desk) -> None:
    desk.fill(Priority.STATUS, tries=1000)
    desk.aside = 1000
    desk.database_busy(100)
    assert desk.fill(Priority.SALE) == 50


def test_who_has_had_more_than_others_leaves_them_room(desk: Desk) -> None:
    desk.overloaded(100)
    polite = [f"ip:192.0.2.{number}" for number in range(10, 20)]
    for principal in polite:
        assert desk.overload.enter(Priority.READ, principal) is None
    greedy = desk.fill(Priority.READ, "ip:192.0.2.1")
    assert greedy + len(polite) == int(200 * GREEDY)
    assert all(desk.overload.enter(Priority.READ, principal) is None for principal in polite)
    assert desk.seen.refused == {("read", "share"): 2000 - greedy}


def test_who_comes_when_all_is_taken_finds_room_when_some_have_left(desk: Desk) -> None:
    desk.overloaded(100)
    assert desk.fill(Priority.READ, "ip:192.0.2.1") == 200
    assert desk.overload.enter(Priority.READ, "ip:192.0.2.2") == "worker"
    for _ in range(60):
        desk.overload.leave(Priority.READ)
        desk.overload.enter(Priority.READ, "ip:192.0.2.1")
    assert desk.overload.enter(Priority.READ, "ip:192.0.2.2") is None


def test_one_alone_may_fill_it_all(desk: Desk) -> None:
    desk.overloaded(100)
    assert desk.fill(Priority.READ) == 200


def test_far_more_than_usual_while_the_loop_has_no_time_to_look_are_too_many_at_once(
    desk: Desk,
) -> None:
    queue_delay = desk.overload._queue_delay
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(queue_delay, "overdue_s", lambda: LONG_S)
        assert desk.fill(Priority.READ, tries=500) < 50
        assert desk.seen.refused.total() > 450
    desk.leave(Priority.READ, desk.overload.status().in_flight)


def test_as_many_as_usual_are_none_too_many_however_late_the_loop_is(desk: Desk) -> None:
    desk.fill(Priority.READ, tries=200)
    desk.look()
    desk.leave(Priority.READ, 200)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk.overload._queue_delay, "overdue_s", lambda: LONG_S)
        assert desk.fill(Priority.READ, tries=300) == 300


def test_far_more_than_usual_are_none_too_many_while_the_loop_is_in_time(desk: Desk) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk.overload._queue_delay, "overdue_s", lambda: 0.001)
        assert desk.fill(Priority.READ, tries=5000) == 5000


def test_one_late_turn_is_no_overload(desk: Desk) -> None:
    """A request that computes for long, once in a while."""
    desk.fill(Priority.READ, tries=500)
    for _ in range(50):
        for delay_s in (0.0, 0.001, 0.3, 0.0, 0.001):
            desk.clock.now_s += LOOK_S / 4
            desk.overload.sample(delay_s)
    assert desk.overload.status().limit is None


@given(st.lists(st.tuples(st.sampled_from(list(Priority)), st.booleans(), st.floats(0, 0.2))))
def test_whoever_was_let_in_and_left_leaves_nothing(
    steps: list[tuple[Priority, bool, float]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(overload_module, "time", clock)
        desk = Desk(clock)
        inside: list[Priority] = []
        for priority, leaves, delay_s in steps:
            desk.look(delay_s)
            inside += [priority] * desk.fill(priority, tries=40)
            assert desk.overload.status().in_flight == len(inside)
            if leaves and inside:
                desk.overload.leave(inside.pop())
        for priority in inside:
            desk.overload.leave(priority)
        assert desk.overload.status().in_flight == 0


def test_it_is_told_once_that_it_began_and_once_that_it_is_over(desk: Desk) -> None:
    with capture_logs() as lines:
        desk.overloaded(100)
        desk.look(times=3)
        assert lines == []  # a limit that turns nobody away is no news
        for _ in range(3):
            desk.fill(Priority.READ, tries=300)
            desk.look()
            assert desk.overload.status().shedding
            desk.leave(Priority.READ, desk.overload.status().in_flight)
        desk.clock.now_s += QUIET_S
        desk.look()
    assert not desk.overload.status().shedding
    began, ended = lines
    assert (began["event"], began["log_level"]) == ("overload_began", "warning")
    assert began["limit"] > 16
    assert (ended["event"], ended["log_level"]) == ("overload_ended", "info")
    assert ended["turned_away"] == sum(desk.seen.refused.values())


def test_the_more_are_turned_away_the_longer_they_are_spread(desk: Desk) -> None:
    desk.overloaded(100)
    assert {desk.overload.retry_after_s() for _ in range(500)} == {1, 2}
    came = desk.fill(Priority.READ, tries=1000)
    assert came == 200
    desk.look()
    assert {desk.overload.retry_after_s() for _ in range(500)} == {1, 2, 3, 4, 5}
    desk.fill(Priority.READ, tries=100_000)
    desk.look()
    assert {desk.overload.retry_after_s() for _ in range(2000)} == set(range(1, int(LATEST_S) + 1))


def test_it_is_lifted_two_seconds_after_it_was_last_needed(desk: Desk) -> None:
    desk.overloaded(100)
    desk.look(times=21)
    assert desk.overload.status().limit is None
    assert desk.fill(Priority.SALE) == 2000


async def test_switched_off_it_never_samples() -> None:
    settings = OverloadSettings(enabled=False)
    overload = Overload(settings, Seen())
    overload.start()
    assert overload._queue_delay._loop is None
    await overload.hold()
    overload.stop()


def test_what_has_no_priority_is_let_in_and_counts_nowhere(desk: Desk) -> None:
    desk.overloaded(100)
    assert [desk.overload.enter(None, "ip:192.0.2.1") for _ in range(500)] == [None] * 500
    assert desk.overload.status().in_flight == 0
    assert desk.fill(Priority.SALE) == 50
    desk.overload.leave(None)
    assert desk.overload.status().in_flight == 50


def test_stopping_lets_all_in(desk: Desk) -> None:
    desk.overloaded(100)
    desk.overload.stop()
    assert desk.fill(Priority.SALE) == 2000
    assert desk.overload.status().limit is None


def test_every_route_class_has_a_kind() -> None:
    kinds = {name: priority_of(name) for name in LimitSettings().route_classes}
    assert kinds["start_job"] is Priority.SALE
    assert kinds["provide_input"] is Priority.INPUT
    assert kinds["status"] is Priority.STATUS
    assert kinds["flows"] is kinds["demo"] is kinds["input_schema"] is Priority.READ
    assert kinds["health"] is None  # never turned away
    assert kinds["default"] is kinds["assets"] is kinds["health_detailed"] is Priority.OTHER
