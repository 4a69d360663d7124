"""Refusals from a template, field by field what the plain way writes."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from service.admission.models import Decision, LimitState, Policy
from service.admission.rulebook import Client
from service.api.keys import RequestRecord
from service.api.refusals import MOST_TEMPLATES, Refusals, refuse

POLICIES = (
    Policy("flows", tokens=30, period_s=60, burst=30),
    Policy("client_100%s", tokens=1, period_s=3600, burst=5),
    Policy("trial", tokens=1, period_s=60, burst=1, shadow=True),
)
REFUSALS = Refusals()


def record(request_id: str = "r-1") -> RequestRecord:
    return RequestRecord(request_id, Client("192.0.2.1", "ip:192.0.2.1"), 0.0)


def states() -> st.SearchStrategy[tuple[LimitState, ...]]:
    one = st.builds(
        LimitState,
        st.sampled_from(POLICIES),
        st.integers(0, 30),
        st.one_of(st.just(0), st.integers(1, 10**8)),
        st.integers(0, 10**8),
    )
    return st.lists(one, min_size=1, max_size=3, unique_by=lambda s: s.policy.name).map(tuple)


@given(states(), st.from_regex(r"\A[A-Za-z0-9._-]{1,128}\Z"))
def test_same_fields_body_and_record(found: tuple[LimitState, ...], request_id: str) -> None:
    decision = Decision(False, found)
    if not decision.violated:
        return
    ours, theirs = record(request_id), record(request_id)
    answer, expected = REFUSALS.refuse(decision, ours), refuse(decision, theirs)
    assert answer.status == expected.status == 429
    assert list(answer.headers.items()) == list(expected.headers.items())
    assert answer.body == expected.body
    assert ours == theirs


def test_policies_of_a_new_version_bring_their_own_text() -> None:
    refusals = Refusals()
    for burst in range(1, MOST_TEMPLATES + 50):
        policy = Policy("flows", tokens=30, period_s=60, burst=burst)
        decision = Decision(False, (LimitState(policy, 0, 1500, 60_000),))
        answer = refusals.refuse(decision, record())
        assert f";q={burst};" in answer.headers["RateLimit-Policy"]
        assert f"allows {burst} requests" in json.loads(answer.text or "")["detail"]


def test_a_quota_is_told_in_requests_not_in_tokens() -> None:
    dear = Policy("dear", tokens=10, period_s=60, burst=12, cost=5)
    answer = Refusals().refuse(Decision(False, (LimitState(dear, 2, 1500, 60_000),)), record())
    detail = json.loads(answer.text or "")["detail"]
    assert detail == 'Quota "dear" allows 2 requests per 72 s; retry in 2 s.'
