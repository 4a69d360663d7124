from __future__ import annotations

import random
from array import array
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from scripts.load.judging.admissions import Bound, Taken, admissions, fairness, worst_window

SPANS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda s: (s[0] / 2, (s[0] + s[1]) / 2)),
    min_size=1,
    max_size=14,
)
BOUNDS = st.builds(
    Bound,
    policy=st.just("flows"),
    rate_per_s=st.sampled_from([0.25, 0.5, 1, 4]),
    burst=st.integers(1, 6),
    cost=st.integers(1, 3),
)


def by_trying_every_window(spans: Sequence[tuple[float, float]], bound: Bound) -> float:
    return max(
        bound.cost * inside - bound.burst - bound.rate_per_s * (end - begin)
        for begin, _ in spans
        for _, end in spans
        if (inside := sum(begin <= sent and answered <= end for sent, answered in spans))
    )


@given(SPANS, BOUNDS)
def test_the_worst_window_is_the_one_that_trying_all_of_them_finds(
    spans: list[tuple[float, float]], bound: Bound
) -> None:
    sent, answered = zip(*spans, strict=True)

    found = worst_window(sent, answered, bound)

    assert found.excess == pytest.approx(by_trying_every_window(spans, bound))
    inside = round((found.excess + bound.burst + bound.rate_per_s * found.window_s) / bound.cost)
    assert 1 <= inside <= len(spans)


@given(st.integers(0, 2**32), BOUNDS)
def test_a_bucket_that_keeps_its_bound_is_never_accused(seed: int, bound: Bound) -> None:
    """However long the answers take, and however greedy the client is."""
    assume(bound.cost <= bound.burst)
    rng, tokens, at_s, spans = random.Random(seed), float(bound.burst), 0.0, []
    for _ in range(60):
        wait_s = rng.expovariate(3 * bound.rate_per_s)
        at_s, tokens = at_s + wait_s, min(bound.burst, tokens + wait_s * bound.rate_per_s)
        if tokens >= bound.cost:
            tokens -= bound.cost
            spans.append((at_s - rng.random() * 5, at_s + rng.random() * 5))
    sent, answered = zip(*spans, strict=True)

    assert worst_window(sent, answered, bound).excess <= 1e-9


def test_what_a_limit_lets_in_too_much_shows_as_that_many_tokens() -> None:
    """Twice the rate for ten seconds, in the middle of an hour of silence."""
    sent = [1800 + number / 4 for number in range(40)]
    answered = [moment + 0.01 for moment in sent]

    found = worst_window(sent, answered, Bound("flows", 2.0, 5))

    assert found.excess == pytest.approx(40 - 5 - 2 * 9.76)
    assert found.window_s == pytest.approx(9.76)


def taken(name: str, *moments: float, offered: int | None = None) -> Taken:
    answered = array("d", [moment + 0.5 for moment in moments])
    return Taken(name, offered or len(moments), array("d", moments), answered)


def test_principals_are_measured_each_by_itself() -> None:
    found = admissions(
        "polite",
        Bound("flows", 1.0, 2),
        [taken("a", 0, 1, 2), taken("b", 0, 0, 0, 0, offered=9), taken("c")],
        seconds=10,
    )

    assert found is not None
    assert (found.principals, found.offered, found.admitted) == (2, 12, 7)
    assert found.worst_principal == "b"
    assert found.worst_excess == pytest.approx(4 - 2 - 0.5)
    assert found.allowed == 2 * (2 + 10)
    assert (found.least, found.most) == (3, 4)


def test_a_bucket_for_all_clients_is_measured_over_all_of_them() -> None:
    shared = Bound("payment_service", 1.0, 2, shared=True)

    found = admissions("all", shared, [taken("a", 0, 0), taken("b", 0, 0)], seconds=10)

    assert found is not None
    assert found.principals == 1
    assert found.worst_excess == pytest.approx(4 - 2 - 0.5)


def test_who_was_refused_everything_counts_as_the_one_with_the_least() -> None:
    found = admissions(
        "polite", Bound("flows", 1.0, 2), [taken("a", 0), taken("b", offered=3)], seconds=1
    )

    assert found is not None
    assert (found.least, found.most) == (0, 1)
    assert found.fairness == 0.5


def test_fairness_is_one_where_all_got_the_same_and_the_share_of_one_where_one_got_all() -> None:
    assert fairness([3, 3, 3]) == 1
    assert fairness([9, 0, 0]) == pytest.approx(1 / 3)
    assert fairness([0, 0]) == 1
