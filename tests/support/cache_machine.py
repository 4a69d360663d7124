"""A fleet of workers around one cached key, as a state machine for hypothesis to play with.

Hypothesis holds up calls to Redis, on their way there or on their way back, and loads between
their reading and their end, and lets them go on when it likes: so it finds its interleavings of
changes, reads, loads and invalidations. Replies get lost, workers are cut off from Redis and die,
Redis loses what it holds and its clock jumps. The scripts run on a real server, under that clock.

The data is a counter; every fourth value is "there is no such thing". What must hold is written
at ``seen`` and ``kept_in_redis``.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import redis
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from service.cache.cache import TieredCache
from service.cache.models import Cached
from service.errors import DatabaseUnavailable, StoreUnavailable
from service.settings import CacheSettings
from tests.support.breaker import SECOND_US, Clocks, Fault, replaced
from tests.support.cache import FENCE_KEY, NAMESPACE, VALUE_KEY

WORKERS = 3
LOCAL_S = 5.0
#: More than the longest chain of callbacks between two waits.
TURNS = 25
ANY = st.integers(0, 20)
#: What of a worker is held up the next time it comes by.
HALTS = st.sampled_from(
    [None, None, None, None, "load", "load", "get to", "get back", "get back", "put to", "put to",
     "put back", "invalidate to", "invalidate to", "invalidate back", "release to"]
)  # fmt: skip


@dataclass
class Halt:
    """Something held up: a call on its way ``to`` Redis or ``back``, or a load."""

    worker: int
    what: str
    go_on: asyncio.Future[None] = field(default_factory=asyncio.Future)


class SteppedScript:
    def __init__(self, fleet: CacheMachine, worker: int, package: str, name: str) -> None:
        source = resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")
        if "redis.call('TIME')" in source:
            source = replaced(source, "redis.call('TIME')", "{ ARGV[#ARGV - 1], ARGV[#ARGV] }")
        fault = fleet.fault
        if isinstance(fault, Fault) and fault.script == name:
            source = replaced(source, fault.right, fault.wrong)
        self._fleet, self._worker, self._name, self._source = fleet, worker, name, source
        self._sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()

    async def __call__(self, keys: Sequence[str], args: Sequence[str | int | bytes]) -> Any:
        fleet = self._fleet
        await fleet.halt(self._worker, f"{self._name} to")
        if self._worker in fleet.cut:
            await asyncio.sleep(0)
            raise StoreUnavailable
        fleet.clocks.run(1)
        sent = (len(keys), *keys, *args, *divmod(fleet.clocks.server_us, SECOND_US))
        try:
            reply = fleet.client.evalsha(self._sha, *sent)
        except redis.exceptions.NoScriptError:
            reply = fleet.client.eval(self._source, *sent)
        fleet.note()
        await asyncio.sleep(0)
        await fleet.halt(self._worker, f"{self._name} back")
        if self._worker in fleet.cut:
            raise StoreUnavailable
        return reply


@dataclass
class SteppedStore:
    """As much of Store as a cache uses, for one worker."""

    fleet: CacheMachine
    worker: int

    def script(self, package: str, name: str, *, keys: int) -> SteppedScript:
        return SteppedScript(self.fleet, self.worker, package, name)


@dataclass
class Worker:
    number: int
    cache: TieredCache
    #: The latest change it was told of itself, which it must never be behind again.
    heard: int
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class CacheMachine(RuleBasedStateMachine):
    client: redis.Redis
    fault: Fault | type[TieredCache] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.client.flushall()
        self.runner = asyncio.Runner()
        self.clocks = Clocks()
        self.halts: list[Halt] = []
        #: What is to be held up, by worker.
        self.planned: dict[int, str | None] = {}
        self.cut: set[int] = set()
        self.database_away = False
        self.loads = 0
        self.tasks: list[asyncio.Task[None]] = []
        self.committed = 1
        #: The latest change that Redis was told of, and when.
        self.told = 0
        self.history: list[tuple[float, int]] = [(self.clocks.local_s, 0)]

    @initialize(unknown_s=st.sampled_from([1, 10]))
    def found(self, unknown_s: int) -> None:
        self.settings = CacheSettings(
            fresh_seconds=20,
            stale_seconds=100,
            local_seconds=LOCAL_S,
            unknown_seconds=unknown_s,
            loads=1000,
        )
        self.workers = [self.born(number) for number in range(WORKERS)]

    def teardown(self) -> None:
        """Everything ends well in the end: then everybody has the last change, at little cost."""
        try:
            if hasattr(self, "workers"):
                self.finish()
        finally:
            self.step(self._end())
            self.runner.close()

    def finish(self) -> None:
        self.settle()
        for worker in self.workers:
            self.begin(worker, self._tell(worker, self.committed))
        self.settle()
        before, self.planned[0] = self.loads, "load"
        for worker in self.workers:
            self.begin(worker, self._get(worker, floor=self.committed))
        self.settle()
        assert self.loads - before <= 1, "loaded more than once for the fleet"

    # What hypothesis may do

    @rule(number=ANY, halt=HALTS, doubt=st.booleans())
    def get(self, number: int, halt: str | None, doubt: bool) -> None:
        self.ask(self.workers[number % WORKERS], halt, doubt)

    @rule(
        numbers=st.lists(ANY, min_size=1, max_size=WORKERS), halt=HALTS, news=st.booleans(),
        late=st.sampled_from([0, 0, 0, 1]),
    )  # fmt: skip
    def tell(self, numbers: list[int], halt: str | None, news: bool, late: int) -> None:
        """Workers hear of a change: this one, or an earlier one, late."""
        self.committed += news
        for number in numbers:
            self.hear(self.workers[number % WORKERS], max(1, self.committed - late), halt)

    @rule(
        reader=ANY, halt=HALTS, told=st.lists(ANY, max_size=2), held_up=HALTS, away=st.booleans(),
        lost=st.sampled_from([(), (), (FENCE_KEY,), (VALUE_KEY, FENCE_KEY)]), other=ANY,
        other_halt=HALTS, all_go_on=st.booleans(),
    )  # fmt: skip
    def race(
        self, reader: int, halt: str | None, told: list[int], held_up: str | None, away: bool,
        lost: tuple[str, ...], other: int, other_halt: str | None, all_go_on: bool,
    ) -> None:  # fmt: skip
        """What goes wrong, if anything does, is mostly of this kind: a read, a change, a read."""
        worker, cut = self.workers[reader % WORKERS], self.cut.copy()
        self.ask(worker, halt, doubt=True)
        self.committed += 1
        for number in told:
            hearing = self.workers[number % WORKERS]
            self.cut |= {hearing.number} if away else set()
            self.hear(hearing, self.committed, held_up)
        self.cut = cut
        if lost:
            self.client.delete(*lost)
        self.ask(self.workers[other % WORKERS], other_halt, doubt=True)
        for held in self.halts.copy():
            if all_go_on or held.worker == worker.number:
                self.halts.remove(held)
                held.go_on.set_result(None)
                self.step()
        self.ask(worker, None, doubt=False)

    @rule(number=ANY, halt=HALTS)
    @precondition(lambda self: self.halts)
    def go_on(self, number: int, halt: str | None) -> None:
        held = self.halts.pop(number % len(self.halts))
        self.planned[held.worker] = halt
        held.go_on.set_result(None)
        self.step()

    @rule(number=ANY)
    @precondition(lambda self: self.halts)
    def lose(self, number: int) -> None:
        """A call or its reply: the worker cannot tell which. A load fails."""
        held = self.halts.pop(number % len(self.halts))
        error = DatabaseUnavailable() if held.what == "load" else StoreUnavailable()
        held.go_on.set_exception(error)
        self.step()

    @rule(seconds=st.sampled_from([1.0, LOCAL_S, LOCAL_S + 0.1, 25.0, 120.0]))
    def elapse(self, seconds: float) -> None:
        """Nothing is held up for so long: calls and loads have time-outs."""
        if seconds > LOCAL_S / 2:
            self.let_go()
        self.clocks.run(round(seconds * SECOND_US))
        if seconds >= self.settings.stale_seconds:
            self.client.delete(VALUE_KEY, FENCE_KEY)
        self.step()

    @rule(
        kind=st.sampled_from(["cut", "cut", "database", "loss", "jump", "death"]), number=ANY,
        names=st.sampled_from([(VALUE_KEY,), (FENCE_KEY,), (VALUE_KEY, FENCE_KEY)]),
        step_us=st.sampled_from([-7_654_321, -1_234_567, 31_234_567]),
    )  # fmt: skip
    def trouble(self, kind: str, number: int, names: tuple[str, ...], step_us: int) -> None:
        index = number % WORKERS
        if kind == "cut":  # off from Redis, or no longer
            self.cut ^= {index}
            self.step()
        elif kind == "database":
            self.database_away = not self.database_away
        elif kind == "loss":
            self.client.delete(*names)
        elif kind == "jump":  # Redis's clock only, as after a failover
            self.clocks.server_us += step_us
        else:  # its calls may have reached Redis already
            self.step(self._gone(self.workers[index]))
            self.halts = [held for held in self.halts if held.worker != index]
            self.workers[index] = self.born(index)

    # What must hold

    @invariant()
    def kept_in_redis(self) -> None:
        """Once Redis was told of a change it holds nothing older, however late that comes."""
        value, unknown = self.client.hmget(VALUE_KEY, ["value", "unknown"])
        if value is not None and unknown == b"0":
            assert int(value) >= self.told, f"{value!r} is kept after change {self.told}"

    @invariant()
    def nothing_went_wrong(self) -> None:
        for task in self.tasks:
            if task.done() and not task.cancelled() and (error := task.exception()):
                raise error
        self.tasks = [task for task in self.tasks if not task.done()]

    def seen(self, cached: Cached, floor: int, heard: int) -> None:
        """A value is not older than what this worker was told of before it asked.

        Nor than what any worker told Redis of more than the worker tier's seconds ago, unless it is
        marked as degraded.
        """
        least = heard if cached.degraded else max(floor, heard)
        possible = range(least, self.committed + 1)
        if cached.value is None:
            assert any(not exists(revision) for revision in possible), f"unknown after {least}"
        else:
            assert int(cached.value) in possible, f"{cached.value!r} after {least}"

    def floor(self, worker: Worker) -> int:
        """What Redis was told of so long ago that every worker must have noticed."""
        if len(worker.cache._reads):
            return 0  # it may join a load that is under way; for how long, time-outs say
        limit_s = self.clocks.local_s - LOCAL_S
        return max((told for at_s, told in self.history if at_s < limit_s), default=0)

    # How it is done

    def born(self, number: int) -> Worker:
        kind = self.fault if isinstance(self.fault, type) else TieredCache
        store: Any = SteppedStore(self, number)
        cache = kind(store, self.settings, namespace=NAMESPACE, clock=self.clocks.local)
        return Worker(number, cache, heard=self.told)

    async def _get(self, worker: Worker, floor: int) -> None:
        heard = worker.heard

        async def load() -> bytes | None:
            self.loads += 1
            revision = self.committed
            await self.halt(worker.number, "load")
            if self.database_away:
                raise DatabaseUnavailable
            return str(revision).encode() if exists(revision) else None

        with suppress(DatabaseUnavailable):
            self.seen(await worker.cache.get("k", load), floor, heard)

    async def _tell(self, worker: Worker, revision: int) -> None:
        await worker.cache.invalidate(["k"], change=str(revision))
        worker.heard = max(worker.heard, revision)

    async def halt(self, worker: int, what: str) -> None:
        if self.planned.get(worker) == what:
            self.planned[worker] = None
            held = Halt(worker, what)
            self.halts.append(held)
            await held.go_on

    def ask(self, worker: Worker, halt: str | None, doubt: bool) -> None:
        if doubt:
            worker.cache.drop()
        self.planned[worker.number] = halt
        self.begin(worker, self._get(worker, floor=self.floor(worker)))

    def hear(self, worker: Worker, revision: int, halt: str | None) -> None:
        self.planned[worker.number] = halt
        self.begin(worker, self._tell(worker, revision))

    def begin(self, worker: Worker, work: Coroutine[Any, Any, None]) -> None:
        async def started() -> None:
            task = asyncio.create_task(work)
            self.tasks.append(task)
            worker.tasks.append(task)

        self.step(started())

    def step(self, work: Coroutine[Any, Any, Any] | None = None) -> None:
        """Do it, and let everybody go on until they are held up or wait for each other."""

        async def for_a_while() -> None:
            if work is not None:
                await work
            for _ in range(TURNS):
                await asyncio.sleep(0)

        self.runner.run(for_a_while())

    def note(self) -> None:
        """Redis has just been told of something: which changes, the fence itself says."""
        changes = self.client.hget(FENCE_KEY, "changes") or b""
        told = max((int(change) for change in changes.split()), default=0)
        if told > self.told:
            self.told = told
            self.history.append((self.clocks.local_s, told))

    def let_go(self) -> None:
        """Until nothing is held up and nobody waits; what tells Redis in vain goes on trying."""
        self.planned.clear()
        for _ in range(200):
            for held in self.halts:
                held.go_on.set_result(None)
            self.halts.clear()
            self.clocks.run(20_000)  # who waits for another's load does so for a time
            self.step()
            caches = [worker.cache for worker in self.workers]
            if not any(len(cache._reads) + len(cache._refreshes) for cache in caches):
                return
        raise AssertionError("it goes on for ever")

    def settle(self) -> None:
        """And with nothing away any more, until everything is told and answered."""
        self.cut.clear()
        self.database_away = False
        for _ in range(20):
            self.let_go()
            owed = sum(worker.cache._fleet.owed for worker in self.workers)
            if not owed and all(task.done() for task in self.tasks):
                return
        raise AssertionError("something is never told or answered")

    async def _end(self) -> None:
        for worker in getattr(self, "workers", []):
            await self._gone(worker)

    async def _gone(self, worker: Worker) -> None:
        for task in worker.tasks:
            task.cancel()
        await worker.cache.close()


def exists(revision: int) -> bool:
    return revision % 4 != 0
