"""A fleet of workers around one breaker, as a state machine for hypothesis to play with.

Workers come, die and send things twice; the clock jumps; keys and the last write get lost; an
operator interferes. After every step the breaker is held against a model (tests.support.breaker),
and the promises that need no model are checked from what was seen alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from service.breaker.breaker import Breaker
from service.breaker.mirror import ASK_AGAIN_S
from service.breaker.models import Outcome, Permit
from service.errors import CircuitOpen
from service.settings import BreakerSettings
from tests.support.breaker import EVENTS, KEY, SECOND_US, Clocks, Denied, Fault, Spec, TimedStore

WORKERS = 3
RECOVERY_S, LEASE_S, THRESHOLD = 30, 9, 3
LEASE_US = LEASE_S * SECOND_US
#: Which permit, counted from the latest: mostly those that still matter.
NUMBERS = st.sampled_from([0, 0, 0, 0, 1, 1, 2, 3, 5, 8, 13])
#: A step or two, right before and after each deadline, and long.
SPANS_US = st.sampled_from(
    [
        1, 200_000, 499_999, SECOND_US, 5 * SECOND_US,
        LEASE_US - 1, LEASE_US,
        RECOVERY_S * SECOND_US - 1, RECOVERY_S * SECOND_US, 400 * SECOND_US,
    ]
)  # fmt: skip


@dataclass
class Held:
    """A permit in somebody's hands, and the request it is for."""

    worker: int
    permit: Permit
    request: str


@dataclass
class Told:
    """The last refusal that came from the fleet, on the worker's clock."""

    until_s: float
    at_s: float


class FleetMachine(RuleBasedStateMachine):
    client: redis.Redis
    fault: Fault | None = None

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.runner = asyncio.Runner()
        self.clocks = Clocks()
        self.store = TimedStore(self.client, self.clocks, self.fault)
        self.spec = Spec(THRESHOLD, RECOVERY_S * SECOND_US, LEASE_US)
        self.saved: tuple[Any, Any, Spec] = (None, None, self.spec.copy())
        self.held: list[Held] = []
        self.told: list[Told | None] = [None] * WORKERS
        self.requests = 0
        #: Of the probe in flight: token, and the instant its lease ends.
        self.live: tuple[str, int] | None = None
        self.opened_s: float | None = None

    @initialize(count=st.sampled_from(["attempts", "requests"]))
    def found(self, count: str) -> None:
        self.by_request = count == "requests"
        self.settings = BreakerSettings(
            failure_threshold=THRESHOLD,
            recovery_seconds=RECOVERY_S,
            probe_lease_seconds=LEASE_S,
            count=count,  # type: ignore[arg-type]
        )
        self.heard: list[tuple[str, str, str]] = []
        self.workers = [self.worker() for _ in range(WORKERS)]

    def teardown(self) -> None:
        self.runner.close()

    def worker(self) -> Breaker:
        return Breaker(
            "payment",
            self.settings,
            self.store,  # type: ignore[arg-type]
            clock=self.clocks.local,
            on_transition=lambda made: self.heard.append((made.before, made.after, made.cause)),
        )

    @property
    def now(self) -> int:
        return self.clocks.server_us

    # Calls

    @rule(worker=st.integers(0, WORKERS - 1), again=st.booleans())
    def ask(self, worker: int, again: bool) -> None:
        self.permit_of(worker, again=again)

    @rule(numbers=st.lists(NUMBERS, min_size=1, max_size=3), outcome=st.sampled_from(Outcome))
    @precondition(lambda self: self.held)
    def report(self, numbers: list[int], outcome: Outcome) -> None:
        """Early and late ones, in any order; a number drawn twice is a report sent twice."""
        for number in numbers:
            self.deliver(self.held[-1 - number % len(self.held)], outcome)

    @rule(number=NUMBERS, outcome=st.sampled_from(Outcome))
    def strangers_report(self, number: int, outcome: Outcome) -> None:
        """The generation is right and the token is not: only the token can tell."""
        self.forged(Permit(self.spec.generation, f"stranger{number}", "probe"), outcome)

    @rule(number=NUMBERS, outcome=st.sampled_from(Outcome))
    @precondition(lambda self: self.held)
    def report_of_before(self, number: int, outcome: Outcome) -> None:
        """The token is right and the generation is not: only the generation can tell."""
        old = self.held[-1 - number % len(self.held)].permit.generation
        if old != self.spec.generation:
            token = self.spec.probe or f"before{number}"
            self.forged(Permit(old, token, "probe"), outcome)

    @rule(lost=st.integers(0, 2))
    def trouble(self, lost: int) -> None:
        """Failures on all workers, as far as they get."""
        for worker in range(THRESHOLD):
            permit = self.permit_of(worker)
            if permit is not None and worker >= lost:
                self.deliver(self.held[-1], Outcome.FAIL)

    @rule(
        worker=st.integers(0, WORKERS - 1), early_us=st.sampled_from([0, 0, 500_000]),
        again=st.booleans(),
    )  # fmt: skip
    def ask_when_due(self, worker: int, early_us: int, again: bool) -> None:
        """The way to the rarest state, half-open."""
        self.clocks.run(max(span.left(self.now) for span in (self.spec.forcing, self.spec.pausing)))
        self.trouble(0)
        self.clocks.run(max(0, self.spec.open.left(self.now) - early_us))
        self.permit_of(worker, again=again)

    @rule(worker=st.integers(0, WORKERS - 1))
    def persist(self, worker: int) -> None:
        """Who waits as long as told, again and again, is admitted: at the latest after all ends."""
        waited_us, longest_us = 0, self.longest_wait_us(worker)
        while (permit := self.permit_of(worker)) is None:
            told = self.refusal_s
            self.clocks.run(int(told * SECOND_US) + 1)
            waited_us += int(told * SECOND_US) + 1
            assert waited_us <= longest_us + 3 * SECOND_US, "waited longer than anything lasts"
        assert permit is not None

    # Time, deaths and losses

    @rule(us=SPANS_US)
    def wait(self, us: int) -> None:
        self.clocks.run(us)

    @rule(worker=st.integers(0, WORKERS - 1))
    def kill(self, worker: int) -> None:
        """What it held is never reported; another takes its place, knowing nothing."""
        self.held = [held for held in self.held if held.worker != worker]
        self.workers[worker] = self.worker()
        self.told[worker] = None

    @rule(what=st.sampled_from(["ahead", "back", "evict", "flush", "failover"]), us=SPANS_US)
    def misfortune(self, what: str, us: int) -> None:
        if what == "failover":
            self.failover()
        elif what in ("evict", "flush"):
            self.lose(all_of_it=what == "flush")
        elif what == "ahead":
            self.jump(us)
        else:
            self.trouble(0)
            self.jump(-us)
            self.persist(0)

    # The operator and the dependency's own wishes

    @rule(verb=st.sampled_from(["open", "closed", "reset"]), us=SPANS_US)
    def interfere(self, verb: str, us: int) -> None:
        self.command(verb, us)
        if verb != "reset":  # as if somebody reported a forced permit
            self.strangers_report(0, Outcome.FAIL)

    @rule(spans_us=st.lists(SPANS_US, min_size=1, max_size=2), worker=st.integers(0, WORKERS - 1))
    def throttle(self, spans_us: list[int], worker: int) -> None:
        for us in spans_us:
            self.pause(min(us, 300 * SECOND_US))
        self.permit_of(worker)

    def command(self, verb: str, us: int) -> None:
        self.save()
        by = {"by": "ann", "reason": "why not"}
        actor = self.workers[0]
        if verb == "reset":
            self.runner.run(actor.reset(**by))
        else:
            self.runner.run(actor.force(verb, us / SECOND_US, **by))  # type: ignore[arg-type]
        known = len(self.spec.events)
        self.spec.command(verb, us, self.now)
        self.transitions_of(known)
        self.live = None
        self.told[0] = None

    def pause(self, us: int) -> None:
        self.save()
        self.runner.run(self.workers[1].pause(us / SECOND_US))
        self.spec.pause(us, self.now)

    # What always holds

    @invariant()
    def the_breaker_is_as_the_model(self) -> None:
        found = {name.decode(): value for name, value in self.client.hgetall(KEY).items()}
        spec = self.spec
        assert found.get("state", b"closed").decode() == spec.state
        assert int(found.get("generation", 0)) == spec.generation
        assert len(found.get("streak", b"").split()) == len(spec.streak)
        probe = found.get("probe")
        assert (probe.decode() if probe else None) == spec.probe
        seen = self.runner.run(self.workers[0].snapshot())
        assert (seen.state, seen.streak, seen.retry_after_ms) == spec.seen(self.now)

    @invariant()
    def every_generation_is_one_event(self) -> None:
        entries: Any = self.client.xrange(EVENTS)
        found = [
            (e[b"from"].decode(), e[b"to"].decode(), int(e[b"generation"]), e[b"cause"].decode())
            for _, e in entries
        ]
        assert found == self.spec.events
        generations = [event[2] for event in found]
        if generations and self.spec.generation:
            assert self.spec.generation == generations[-1]

    # How the rules do it

    def jump(self, us: int) -> None:
        """Another primary, another clock; the workers' own clocks know nothing of it."""
        self.clocks.server_us += us
        if us > 0:
            self.opened_s = None
        self.live = None
        self.told = [None] * WORKERS
        self.workers = [self.worker() for _ in range(WORKERS)]

    def lose(self, all_of_it: bool) -> None:
        """Evicted, deleted, or the whole server gone."""
        events = self.spec.events
        self.spec.lose()
        if all_of_it:
            self.client.flushall()
        else:
            self.client.delete(KEY)
            self.spec.events = events
        self.live = self.opened_s = None

    def failover(self) -> None:
        """The replica that takes over has not seen the last write."""
        hash_, stream, spec = self.saved
        for key, dump in ((KEY, hash_), (EVENTS, stream)):
            self.client.delete(key)
            if dump is not None:
                self.client.restore(key, 0, dump)
        self.spec = spec.copy()
        self.live = self.opened_s = None

    def permit_of(self, number: int, *, again: bool = False) -> Permit | None:
        """Ask as a worker does; ``again``: with the same token once more, as after a lost reply."""
        breaker, calls = self.workers[number], self.store.calls
        self.save()
        permit: Permit | None = None
        try:
            permit = self.runner.run(breaker.acquire())
        except CircuitOpen as error:
            self.refusal_s = error.retry_after_s or 0
        if self.store.calls == calls:
            self.refused_unasked(number, permit)
            return None
        known = len(self.spec.events)
        expected = self.spec.acquire(permit.token if permit else "denied", self.now)
        self.transitions_of(known)
        if isinstance(expected, Denied):
            assert permit is None
            assert self.refusal_s == expected.wait_ms / 1000
            self.told[number] = (
                None
                if expected.reason == "half-open"
                else Told(self.clocks.local_s + self.refusal_s, self.clocks.local_s)
            )
            return None
        assert permit == expected
        self.told[number] = None
        if again:
            fleet = breaker._fleet
            assert self.runner.run(fleet.acquire(permit.token)).answer == permit
        self.requests += 1
        self.held.append(Held(number, permit, f"request{self.requests // 2}"))
        return permit

    def refused_unasked(self, number: int, permit: Permit | None) -> None:
        """Only what the fleet told less than a second ago, and honestly."""
        told, now_s = self.told[number], self.clocks.local_s
        assert permit is None
        assert told is not None
        assert now_s < told.until_s
        assert now_s - told.at_s < 2 * ASK_AGAIN_S
        assert self.refusal_s == pytest.approx(told.until_s - now_s, abs=0.001)

    def transitions_of(self, known: int) -> None:
        """From what was seen alone: told once, one probe at a time, not before recovery."""
        assert self.heard == [(b, a, cause) for b, a, _, cause in self.spec.events[known:]]
        self.heard.clear()
        for _, _, _, cause in self.spec.events[known:]:
            if cause in ("recovery", "probe-lost", "probe-returned"):
                if cause == "recovery" and self.opened_s is not None:
                    assert self.clocks.local_s - self.opened_s >= RECOVERY_S - 0.001
                assert self.live is None or self.now >= self.live[1], "two probes in flight"
                self.live = ("", self.now + LEASE_US)
            elif cause in ("failures", "probe-failed"):
                self.opened_s, self.live = self.clocks.local_s, None
            elif cause != "force-ended":
                self.live = None

    def deliver(self, held: Held, outcome: Outcome) -> None:
        self.save()
        permit = held.permit
        self.runner.run(
            self.workers[held.worker].report(permit, outcome, detail="x", request=held.request)
        )
        if permit.mode != "forced":
            known = len(self.spec.events)
            self.took(permit, outcome, held.request if self.by_request else permit.token)
            if len(self.spec.events) > known and self.spec.state == "closed":
                self.told[held.worker] = None

    def forged(self, permit: Permit, outcome: Outcome) -> None:
        self.save()
        fleet = self.workers[0]._fleet
        made = self.runner.run(fleet.report(permit, outcome, member=permit.token, detail=""))
        self.heard += [(step.before, step.after, step.cause) for step in made]
        self.took(permit, outcome, permit.token)

    def took(self, permit: Permit, outcome: Outcome, member: str) -> None:
        known = len(self.spec.events)
        if (permit.generation, permit.token) == (self.spec.generation, self.spec.probe):
            self.live = None
        self.spec.report(permit, outcome, member, self.now)
        self.transitions_of(known)

    def save(self) -> None:
        hash_, stream = self.client.pipeline(False).dump(KEY).dump(EVENTS).execute()
        self.saved = (hash_, stream, self.spec.copy())

    def longest_wait_us(self, worker: int) -> int:
        """What the fleet would say and a probe, or what this worker was told a moment ago."""
        spec, now, told = self.spec, self.now, self.told[worker]
        spans = (spec.open, spec.pausing, spec.forcing, spec.probing)
        known_s = told.until_s - self.clocks.local_s if told else 0
        return max(*(span.left(now) for span in spans), int(known_s * SECOND_US)) + LEASE_US
