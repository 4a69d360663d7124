"""Any record at all, for hypothesis: empty, huge, not a number, and hostile to its page."""

from __future__ import annotations

from datetime import UTC
from typing import TypeVar

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from scripts.load.record import (
    KINDS,
    Admissions,
    Costs,
    Event,
    Fleet,
    GeneratorState,
    Latency,
    Machine,
    Offered,
    Record,
    Reference,
    Requests,
    Sales,
    Sample,
    Second,
    Verdict,
)
from tests.support.load_records import drawn

T = TypeVar("T")

HOSTILE = (
    "<script>alert(1)</script>",
    "</style><b onmouseover=alert(1)>",
    "\" onload=\"alert(1)' x='",
    "]]>&amp;&#60;",
    "-->",
    "\x00\x1b[31m\x7f\ufffe",
    "{{ 7 * 7 }} ${HOME}",
)
texts = st.sampled_from(HOSTILE) | st.text(max_size=12)
counts = st.integers(0, 30) | st.integers(-2, 10**18)
floats = st.floats(0, 1000) | st.floats(allow_nan=True, allow_infinity=True)
shares = st.floats(0, 1) | floats
kinds = st.dictionaries(st.sampled_from(KINDS), counts, max_size=5)
_KNOWN = drawn(3, 400, 5.0)
histograms = st.sampled_from(["", "AAAA", _KNOWN.histogram if _KNOWN else ""]) | texts


def few(of: SearchStrategy[T]) -> SearchStrategy[list[T]]:
    return st.lists(of, max_size=4)


def maybe(of: SearchStrategy[T]) -> SearchStrategy[T | None]:
    return st.none() | of


latencies = st.builds(
    Latency, count=counts, mean=floats, p50=floats, p90=floats, p99=floats, p999=floats,
    max=floats, histogram=histograms,
)  # fmt: skip
requests = st.builds(
    Requests, group=texts, route=texts, sent=counts, kinds=kinds,
    statuses=st.dictionaries(st.integers(100, 599), counts, max_size=3),
    problems=st.dictionaries(texts, counts, max_size=3),
    errors=st.dictionaries(texts, counts, max_size=2),
    latency=maybe(latencies), refusal_latency=maybe(latencies),
)  # fmt: skip
seconds = st.builds(
    Second, at=st.integers(0, 5) | st.integers(-3, 10**9), group=texts, due=counts, kinds=kinds,
    p50_ms=maybe(floats), p99_ms=maybe(floats), max_ms=maybe(floats), in_flight=counts,
)  # fmt: skip
admissions = st.builds(
    Admissions, policy=texts, group=texts, rate_per_s=floats, burst=counts, principals=counts,
    offered=counts, admitted=counts, allowed=floats, worst_excess=floats, worst_window_s=floats,
    worst_principal=texts, least=counts, most=counts, fairness=shares,
)  # fmt: skip
sales = st.builds(
    Sales, begun=counts, refused=counts, paid=counts, completed=counts, failed=counts,
    lost=counts, doubled=counts, wrong_hashes=counts, wrong_times=counts,
    findings=few(texts), latency=maybe(latencies),
)  # fmt: skip
samples = st.builds(
    Sample, at=floats, cpu_s=st.dictionaries(texts, floats, max_size=3), redis_commands=counts,
    redis_bytes=counts, queries=counts, pool_in_use=counts, pool_size=counts, in_flight=counts,
    shed=counts, denied_locally=counts,
    breaker=st.sampled_from(["closed", "open", "half-open"]) | texts,
)  # fmt: skip
costs = st.builds(
    Costs, cpu_us=st.dictionaries(texts, floats, max_size=3), redis_commands=maybe(floats),
    redis_bytes=maybe(floats), queries=maybe(floats),
)  # fmt: skip
events = st.builds(
    Event, at=floats, text=texts,
    kind=st.sampled_from(["breaker", "shed", "degraded", "generator", "fleet"]),
)  # fmt: skip
verdicts = st.builds(
    Verdict, name=texts, limit=texts, measured=texts, passed=st.booleans(), judged=st.booleans(),
    measure=st.sampled_from(["p99_ms", "failed", "", "goodput"]), bound=maybe(floats),
    group=maybe(texts), route=maybe(texts), against=st.sampled_from(["", "group", "baseline"]),
)  # fmt: skip
records: SearchStrategy[Record] = st.builds(
    Record, scenario=texts, title=texts, purpose=texts, command=texts, target=texts,
    began=st.datetimes(timezones=st.just(UTC) | st.none()), seconds=floats, seed=counts,
    machine=st.builds(
        Machine, cpu=texts, cores=counts, memory_mib=counts, system=texts, python=texts,
        packages=st.dictionaries(texts, texts, max_size=2),
    ),
    fleet=maybe(
        st.builds(
            Fleet, replicas=counts, workers=counts,
            environment=st.dictionaries(texts, texts, max_size=2),
        )
    ),
    offered=st.builds(
        Offered, schedule=texts, rate=maybe(floats), connections=counts, principals=counts
    ),
    generator=st.builds(
        GeneratorState, processes=counts, cpu_share=few(shares), late_p99_ms=floats,
        bottleneck=st.booleans(), says=texts,
    ),
    requests=few(requests), seconds_of=few(seconds), admissions=few(admissions),
    sales=maybe(sales), samples=few(samples), costs=maybe(costs), events=few(events),
    verdicts=few(verdicts),
    references=few(
        st.builds(
            Reference, program=texts, command=texts, per_second=floats, p50_ms=maybe(floats),
            p99_ms=maybe(floats), ours_per_second=floats,
        )
    ),
)  # fmt: skip
