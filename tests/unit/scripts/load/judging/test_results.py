from __future__ import annotations

import pytest

from scripts.bench.load import LoadFailed
from scripts.load.asking.histogram import Histogram
from scripts.load.asking.tally import counted
from scripts.load.judging import results
from scripts.load.plan import Outcome
from scripts.load.reference import Measured, read_ab, together

AB = """\
Concurrency Level:      50
Time taken for tests:   0.412 seconds
Complete requests:      1000
Failed requests:        {failed}
   (Connect: 0, Receive: {received}, Length: {failed}, Exceptions: 0)
Requests per second:    2427.18 [#/sec] (mean)
Time per request:       20.600 [ms] (mean)

Percentage of the requests served within a certain time (ms)
  50%     19
  66%     21
  99%     48
 100%     52 (longest request)
"""


def outcome(*, cpu_s: float = 1.0, late_us: int = 100) -> Outcome:
    late = Histogram()
    late.record(late_us)
    return Outcome(cpu_s=cpu_s, seconds=10, late=counted(late), routes=[], admitted=[], bought=[])


@pytest.mark.parametrize(
    ("one", "bottleneck"),
    [
        (outcome(), False),
        (outcome(cpu_s=8.4, late_us=9_900), False),
        (outcome(cpu_s=8.7), True),
        (outcome(late_us=11_000), True),
    ],
)
def test_a_generator_that_is_busy_or_late_says_so(one: Outcome, bottleneck: bool) -> None:
    state = results.generator_state([outcome(), one], results.MOST_LATE_MS)

    assert state.bottleneck is bottleneck
    assert ("is the bottleneck" in state.says) is bottleneck
    assert state.processes == 2


def test_how_late_it_may_be_can_be_said() -> None:
    assert not results.generator_state([outcome(late_us=11_000)], 12.0).bottleneck


def test_what_ab_says_is_read() -> None:
    assert read_ab(AB.format(failed=0, received=0)) == (2427.18, 19, 48)


def test_answers_of_another_length_are_answers_to_ab_too() -> None:
    assert read_ab(AB.format(failed=7, received=0))[0] == 2427.18


def test_answers_that_did_not_come_make_what_ab_says_void() -> None:
    with pytest.raises(LoadFailed):
        read_ab(AB.format(failed=1, received=1))


def test_a_reference_is_the_mean_of_before_and_after() -> None:
    made = together(
        Measured("wrk -t1", 1000, 2, 10), Measured("wrk -t1", 2000, 4, 20), ours_per_second=1400
    )

    assert (made.program, made.per_second, made.p50_ms, made.p99_ms) == ("wrk", 1500, 3, 15)
