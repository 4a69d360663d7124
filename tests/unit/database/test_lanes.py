"""Who is lent the next connection."""

from __future__ import annotations

import asyncio
import random

import pytest

from service.database.classes import Lane
from service.database.lanes import Lanes, reserves

REQUESTS, READS, LOOPS = Lane.REQUESTS, Lane.READS, Lane.LOOPS


@pytest.mark.parametrize(
    ("maximum", "reserve", "requests", "loops"),
    [
        (20, None, 4, 2),
        (10, None, 2, 1),
        (5, None, 1, 1),
        (4, None, 1, 1),
        (2, None, 1, 0),
        (1, None, 0, 0),
        (20, 0, 0, 0),
        (20, 10, 10, 5),
        (2, 10, 1, 0),
    ],
)
def test_a_fifth_is_kept_for_requests_half_as_much_for_loops_and_one_for_nobody(
    maximum: int, reserve: int | None, requests: int, loops: int
) -> None:
    assert reserves(maximum, reserve) == {REQUESTS: requests, READS: 0, LOOPS: loops}


def lend_all(lanes: Lanes[int], lane: Lane) -> int:
    """As many as this lane may have now."""
    before = lanes.lent[lane]
    while lanes.may(lane):
        lanes.lent[lane] += 1
    return lanes.lent[lane] - before


def test_a_flood_of_reads_leaves_the_others_what_is_kept_for_them() -> None:
    lanes = Lanes[int](20, waiting_max=9)
    assert lend_all(lanes, READS) == lanes.most(READS) == 14
    assert lend_all(lanes, LOOPS) == 2
    assert lend_all(lanes, REQUESTS) == 4
    assert not any(lanes.may(lane) for lane in Lane)


def test_loops_and_requests_cannot_keep_each_other_out_either() -> None:
    for first, second, kept in ((LOOPS, REQUESTS, 4), (REQUESTS, LOOPS, 2)):
        lanes = Lanes[int](20, waiting_max=9)
        assert lend_all(lanes, first) == lanes.most(first) == 20 - kept
        assert lend_all(lanes, second) == kept


def test_whatever_happens_no_more_is_lent_than_there_is_and_reserves_are_had_at_once() -> None:
    chance = random.Random(11)
    for _ in range(50):
        maximum = chance.randint(1, 24)
        lanes = Lanes[int](maximum, waiting_max=9)
        kept = reserves(maximum, None)
        for _ in range(200):
            lane = chance.choice(list(Lane))
            if lanes.lent[lane] and chance.random() < 0.45:
                lanes.lent[lane] -= 1
            elif lanes.may(lane):
                lanes.lent[lane] += 1
            assert sum(lanes.lent.values()) <= maximum
            assert all(lanes.may(each) for each in Lane if lanes.lent[each] < kept[each])


async def test_lanes_take_turns_and_within_one_the_first_comes_first() -> None:
    lanes = Lanes[int](20, waiting_max=9)
    places = {lane: [asyncio.Future[int]() for _ in range(3)] for lane in (READS, REQUESTS)}
    for lane in (READS, REQUESTS):  # all reads were there before the first request
        for place in places[lane]:
            lanes.join(lane, place)
    order = [lanes.next() for _ in range(6)]
    assert order == [
        (lane, places[lane][number]) for number in range(3) for lane in (REQUESTS, READS)
    ]
    assert lanes.next() is None
    assert not lanes


async def test_who_may_have_none_is_passed_over_and_who_has_left_too() -> None:
    lanes = Lanes[int](4, waiting_max=9)
    lend_all(lanes, READS)
    read, gone, request = (asyncio.Future[int]() for _ in range(3))
    lanes.join(READS, read)
    lanes.join(REQUESTS, gone)
    lanes.join(REQUESTS, request)
    gone.cancel()
    assert lanes.next() == (REQUESTS, request)
    assert lanes.next() is None
    assert (lanes.leave(READS, read), lanes.leave(READS, read)) == (True, False)


async def test_each_lane_has_a_queue_of_its_own_with_an_end() -> None:
    lanes = Lanes[int](4, waiting_max=2)
    for _ in range(2):
        lanes.join(READS, asyncio.Future())
    assert lanes.full(READS)
    assert not lanes.full(REQUESTS)
