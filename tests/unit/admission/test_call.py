"""One reply for several like requests: each is told what it would have been told alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import call as calling
from service.admission.call import Call, Calls
from service.admission.models import Charge, Decision, Policy, Subject, limit_state

NOW_US = 1_700_000_000_000_000


class FakeScript:
    sha = "0" * 40


SCRIPT: Any = FakeScript()


@dataclass
class Bucket:
    """What the server holds of one charge's bucket."""

    charge: Charge
    arrival_us: int

    @property
    def room(self) -> int:
        ahead_us = self.arrival_us - NOW_US
        return max(0, (self.charge.capacity_us - ahead_us) // self.charge.price_us)


@st.composite
def buckets(draw: st.DrawFn) -> list[Bucket]:
    found = []
    for number in range(draw(st.integers(1, 3))):
        burst = draw(st.integers(1, 8))
        policy = Policy(
            f"p{number}", draw(st.integers(1, 50)), 60, burst, shadow=draw(st.booleans())
        )
        charge = Charge(policy, Subject("client", "a"), draw(st.integers(1, burst)))
        ahead_us = draw(st.just(0) | st.integers(0, charge.capacity_us + 5_000_000))
        found.append(Bucket(charge, NOW_US + ahead_us))
    return found


def reply(found: list[Bucket], asked: int) -> list[int]:
    """As take.lua says it."""
    rooms = [min(each.room, asked) for each in found]
    enforced = [r for r, each in zip(rooms, found, strict=True) if not each.charge.policy.shadow]
    states = [(each.arrival_us, room) for each, room in zip(found, rooms, strict=True)]
    return [NOW_US, min([asked, *enforced]), *(number for state in states for number in state)]


def alone(found: list[Bucket]) -> Decision:
    """One request, decided and charged by itself."""
    fits = [each.room > 0 for each in found]
    allowed = all(f or each.charge.policy.shadow for f, each in zip(fits, found, strict=True))
    for fit, each in zip(fits, found, strict=True):
        each.arrival_us += each.charge.price_us * (allowed and fit)
    return Decision(
        allowed,
        tuple(
            limit_state(each.charge, each.charge.policy.bucket, each.arrival_us, NOW_US, fits=fit)
            for fit, each in zip(fits, found, strict=True)
        ),
        decided_at_us=NOW_US,
    )


@given(buckets(), st.integers(1, 6))
def test_decisions_together_are_those_of_one_after_the_other(
    found: list[Bucket], asked: int
) -> None:
    call = Call(SCRIPT, tuple(each.charge for each in found))
    told = reply(found, asked)
    assert call.decisions(told, asked) == [alone(found) for _ in range(asked)]
    # ``found`` is now as the server left it.
    assert call.arrivals(told) == [
        (each.charge.key, each.arrival_us - NOW_US)
        for each in found
        if not each.charge.policy.shadow
    ]


@given(buckets())
def test_the_outlook_is_what_the_next_would_be_told_but_charged_nothing(
    found: list[Bucket],
) -> None:
    outlook = Call(SCRIPT, tuple(each.charge for each in found)).outlook(reply(found, 0))
    left = [each.charge.policy.bucket.remaining(each.arrival_us, NOW_US) for each in found]
    assert [state.remaining for state in outlook.states] == left
    assert outlook.allowed == alone(found).allowed


def test_the_latest_calls_are_kept_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "MOST_CALLS", 2)
    calls = Calls(SCRIPT)
    policy = Policy("p", 1, 60, 1)
    charges = [(Charge(policy, Subject("client", name)),) for name in "abc"]
    made = [calls.of(each) for each in charges]
    assert len(calls) == 2
    assert [calls.of(each) is one for each, one in zip(charges[1:], made[1:], strict=True)] == [
        True,
        True,
    ]
    assert calls.of(charges[0]) is not made[0]
