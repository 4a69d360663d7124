"""Who has had more than others."""

from __future__ import annotations

from service.overload.crowd import MOST_CLIENTS, Crowd


def crowd_of(**numbers: int) -> Crowd:
    crowd = Crowd()
    for name, number in numbers.items():
        for _ in range(number):
            crowd.note(name)
    return crowd


def test_who_has_had_more_than_the_average_is_above_it() -> None:
    crowd = crowd_of(greedy=90, polite=5, shy=1)
    assert crowd.above_average("greedy")
    assert not crowd.above_average("polite")
    assert not crowd.above_average("never seen")


def test_who_is_alone_or_like_all_others_is_not() -> None:
    assert not crowd_of(alone=500).above_average("alone")
    equal = crowd_of(a=7, b=7, c=7)
    assert not any(equal.above_average(name) for name in "abc")


def test_it_fades() -> None:
    crowd = crowd_of(greedy=8, polite=1)
    crowd.fade()
    crowd.note("polite")
    assert crowd.above_average("greedy")  # 4 and 1
    for _ in range(3):
        crowd.fade()
    assert len(crowd) == 0
    assert not crowd.above_average("greedy")


def test_who_came_in_vain_counts_in_the_average() -> None:
    crowd = crowd_of(greedy=9)
    crowd.meet("in vain")
    assert crowd.above_average("greedy")
    assert not crowd.above_average("in vain")


def test_its_memory_is_bounded_and_a_stranger_counts_as_new() -> None:
    crowd = Crowd()
    for number in range(MOST_CLIENTS + 500):
        crowd.note(f"ip:{number}")
    assert len(crowd) == MOST_CLIENTS
    for _ in range(50):
        crowd.note(f"ip:{MOST_CLIENTS + 1}")
    assert not crowd.above_average(f"ip:{MOST_CLIENTS + 1}")
    crowd.clear()
    assert len(crowd) == 0
