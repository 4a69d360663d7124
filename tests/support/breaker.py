"""The breaker's real scripts under a clock of the test's, and what they should do, in Python."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import redis

from service.breaker.models import Outcome, Permit
from service.store import keys

KEY = keys.breaker("payment")
EVENTS = f"{KEY}:events"
SECOND_US = 1_000_000


@dataclass
class Clocks:
    """``server_us`` is Redis's clock, which may jump; ``local_s`` is every worker's, which runs."""

    server_us: int = 1_790_000_000 * SECOND_US
    local_s: float = 1000.0

    def run(self, us: int) -> None:
        self.server_us += us
        self.local_s += us / SECOND_US

    def local(self) -> float:
        return self.local_s


@dataclass(frozen=True)
class Fault:
    """One line of one script made wrong."""

    script: str
    right: str
    wrong: str


class TimedScript:
    """The production source; only where it reads the clock, it reads two more arguments."""

    def __init__(self, store: TimedStore, package: str, name: str, keys: int) -> None:
        source = resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")
        source = replaced(source, "redis.call('TIME')", "{ ARGV[#ARGV - 1], ARGV[#ARGV] }")
        if store.fault and store.fault.script == name:
            source = replaced(source, store.fault.right, store.fault.wrong)
        self._store = store
        self._source = source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        self._keys = keys

    async def __call__(self, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        assert len(keys) == self._keys
        self._store.calls += 1
        sent = (len(keys), *keys, *args, *divmod(self._store.clocks.server_us, SECOND_US))
        try:
            return self._store.client.evalsha(self._sha, *sent)
        except redis.exceptions.NoScriptError:
            return self._store.client.eval(self._source, *sent)


class TimedStore:
    """As much of Store as a breaker uses, over one blocking connection: quick, and in step."""

    away = False

    def __init__(self, client: redis.Redis, clocks: Clocks, fault: Fault | None = None) -> None:
        self.client = client
        self.clocks = clocks
        self.fault = fault
        self.calls = 0

    def script(self, package: str, name: str, *, keys: int) -> TimedScript:
        return TimedScript(self, package, name, keys)

    async def run(self, operation: Callable[[], Awaitable[Any]]) -> Any:
        raise AssertionError("only scripts")


@dataclass
class Span:
    """An instant in time and how long it was away when it was set, µs."""

    until: int = 0
    length: int = 0

    def left(self, now: int) -> int:
        return max(0, min(self.until - now, self.length))

    def look(self, now: int) -> int:
        """``left``, and a clock set back is made up for."""
        self.until = min(self.until, now + self.length)
        return self.left(now)

    def begin(self, now: int, length: int) -> None:
        self.until, self.length = now + length, length


@dataclass(frozen=True)
class Denied:
    reason: str
    wait_ms: int


@dataclass
class Spec:
    """What docs/breaker.md says, step by step. Times in µs; ``events``: from, to, generation."""

    threshold: int
    recovery: int
    lease: int
    state: str = "closed"
    generation: int = 0
    streak: list[str] = field(default_factory=list)
    probe: str | None = None
    force: str | None = None
    open: Span = field(default_factory=Span)
    probing: Span = field(default_factory=Span)
    pausing: Span = field(default_factory=Span)
    forcing: Span = field(default_factory=Span)
    events: list[tuple[str, str, int, str]] = field(default_factory=list)

    def copy(self) -> Spec:
        return copy.deepcopy(self)

    def lose(self) -> None:
        """The keys are gone."""
        self.__dict__.update(Spec(self.threshold, self.recovery, self.lease).__dict__)

    def acquire(self, token: str, now: int) -> Permit | Denied:
        if not self.generation:
            self._step(now, "closed", "closed", "first-use")
        forced_for = self.forcing.look(now)
        if self.force and not forced_for:
            force, self.force = self.force, None
            self._step(now, force, self.state, "force-ended")
        shut_for = paused_for = self.pausing.look(now)
        if self.state == "open":
            shut_for = max(shut_for, self.open.look(now))
        if self.force == "open":
            return self._denied("forced", max(forced_for, shut_for))
        if self.force == "closed":
            return Permit(self.generation, token, "forced")
        if shut_for:
            return self._denied("pause" if paused_for else "open", shut_for)
        if self.state == "closed":
            return Permit(self.generation, token, "normal")
        return self._probe(token, now)

    def _probe(self, token: str, now: int) -> Permit | Denied:
        cause = "recovery"
        if self.state == "half-open":
            left = self.probing.look(now) if self.probe else 0
            if left and self.probe == token:
                return Permit(self.generation, token, "probe")
            if left:
                return self._denied("half-open", min(left, SECOND_US))
            cause = "probe-lost" if self.probe else "probe-returned"
        self._step(now, self.state, "half-open", cause)
        self.probe = token
        self.probing.begin(now, self.lease)
        return Permit(self.generation, token, "probe")

    def report(self, permit: Permit, outcome: Outcome, member: str, now: int) -> None:
        if permit.generation != self.generation or self.state == "open" or self.force:
            return
        if self.state == "half-open":
            if permit.token != self.probe:
                return
            self.probe = None
            if outcome is Outcome.OK:
                self._step(now, "half-open", "closed", "probe-ok")
            elif outcome is Outcome.FAIL:
                self._open(now, "probe-failed")
        elif outcome is Outcome.OK:
            self.streak.clear()
        elif outcome is Outcome.FAIL and member not in self.streak:
            self.streak.append(member)
            if len(self.streak) == self.threshold:
                self._open(now, "failures")

    def command(self, verb: str, length: int, now: int) -> None:
        before = self.force if self.force and now < self.forcing.until else self.state
        if verb == "reset":
            kept, generation = self.events, self.generation
            self.lose()
            self.events, self.generation = kept, generation
            self._step(now, before, "closed", "reset")
            return
        self._step(now, before, verb, "forced", stays=self.state)
        self.force, self.probe = verb, None
        self.streak.clear()
        self.forcing.begin(now, length)

    def pause(self, length: int, now: int) -> None:
        if length > self.pausing.left(now):
            self.pausing.begin(now, length)

    def seen(self, now: int) -> tuple[str, int, int]:
        """State, failures in a row and ms to wait, as ``peek`` tells them."""
        state, wait = self.state, self.pausing.left(now)
        if state == "open":
            left = self.open.left(now)
            wait = max(wait, left)
            state = "open" if left else "half-open"
        elif state == "half-open" and self.probe:
            wait = max(wait, self.probing.left(now))
        if self.force and (left := self.forcing.left(now)):
            state, wait = self.force, max(wait, left) if self.force == "open" else 0
        return state, len(self.streak), math.ceil(wait / 1000)

    def _open(self, now: int, cause: str) -> None:
        self._step(now, self.state, "open", cause)
        self.streak.clear()
        self.open.begin(now, self.recovery)

    def _step(self, now: int, before: str, after: str, cause: str, *, stays: str = "") -> None:
        self.generation = max(self.generation + 1, now)
        self.state = stays or after
        self.events.append((before, after, self.generation, cause))

    def _denied(self, reason: str, wait: int) -> Denied:
        return Denied(reason, max(1, math.ceil(wait / 1000)))


def replaced(source: str, right: str, wrong: str) -> str:
    assert source.count(right) == 1, f"{source.count(right)} times: {right}"
    return source.replace(right, wrong)
