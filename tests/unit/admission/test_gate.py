"""The gate's promises, on a line that answers when it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from redis.exceptions import NoScriptError, ResponseError

from service.admission.call import Call
from service.admission.clock import ScriptClock
from service.admission.contact import Contact
from service.admission.denials import Denials
from service.admission.gate import MOST_CALLS, MOST_REQUESTS, Gate
from service.admission.models import Charge, Policy, Subject
from service.errors import StoreUnavailable
from service.store.guard import FAILURES_BEFORE_REST

TEN = Policy("ten", tokens=10, period_s=3600, burst=10)
NOW_US = 1_700_000_000_000_000


class FakeScript:
    sha = "0" * 40

    def packed_load(self) -> bytes:
        return b"LOAD"


class FakeLine:
    """Keeps what is sent; ``held``: answers only when released. A bucket of ten for each key."""

    def __init__(self) -> None:
        self.sent: list[list[bytes]] = []
        self.tokens: dict[str, int] = {}
        self.release = asyncio.Event()
        self.release.set()
        self.script: list[Any] = []

    async def exchange(self, commands: Sequence[bytes]) -> list[Any]:
        self.sent.append(list(commands))
        await self.release.wait()
        if self.script:
            planned = self.script.pop(0)
            if isinstance(planned, Exception):
                raise planned
            if planned is not None:
                return [planned(command) for command in commands]
        return [self.reply(command) for command in commands]

    def reply(self, command: bytes) -> Any:
        if command == b"LOAD":
            return FakeScript.sha.encode()
        if b"TIME" in command:
            return [str(NOW_US // 1_000_000).encode(), b"0"]
        words = command.decode().split("\r\n")[2::2]
        key, asked = words[3], int(words[5])
        left = self.tokens.get(key, 10)
        granted = min(left, asked)
        self.tokens[key] = left - granted
        arrival_us = NOW_US + (10 - left) * TEN.emission_interval_us
        return [NOW_US, granted, arrival_us, granted]


class Setup:
    def __init__(self, lines: int = 1) -> None:
        self.lines = [FakeLine() for _ in range(lines)]
        self.line = self.lines[-1]
        self.failures: list[int] = []
        self.clock = ScriptClock()
        self.denials = Denials()
        self.contact = Contact(self.failures.append)
        self.gate = Gate(
            self.lines,  # type: ignore[arg-type]
            FakeScript(),  # type: ignore[arg-type]
            self.clock,
            self.denials,
            self.contact,
        )

    def call(self, name: str = "a", policy: Policy = TEN) -> Call:
        return Call(FakeScript(), (Charge(policy, Subject("client", name)),))  # type: ignore[arg-type]


@pytest.fixture
async def setup() -> Setup:
    return Setup()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_arrives_meanwhile_goes_together_in_the_next_batch(setup: Setup) -> None:
    alike, other = setup.call("a"), setup.call("b")
    setup.line.release.clear()
    first = setup.gate.ask(alike)
    await settle()
    later = [setup.gate.ask(alike) for _ in range(3)] + [setup.gate.ask(other)]
    await settle()
    assert len(setup.line.sent) == 1
    setup.line.release.set()
    decisions = await asyncio.gather(first, *later)
    assert [len(batch) for batch in setup.line.sent] == [1, 2]
    assert [d.states[0].remaining for d in decisions if d] == [9, 8, 7, 6, 9]


async def test_the_first_to_come_are_granted_and_the_others_share_the_denial(setup: Setup) -> None:
    call = setup.call()
    decisions = await asyncio.gather(*(setup.gate.ask(call) for _ in range(13)))
    assert [d.allowed for d in decisions if d] == [True] * 10 + [False] * 3
    assert decisions[-1] is decisions[-2]
    assert decisions[-1] is not None
    assert decisions[-1].retry_after_s == 360
    # What was heard denies the next without a call.
    assert setup.denials.deny(call.charges) is not None


async def test_a_request_cancelled_while_waiting_is_not_asked_for(setup: Setup) -> None:
    call = setup.call()
    setup.line.release.clear()
    first = setup.gate.ask(setup.call("b"))
    await settle()
    gone, stays = setup.gate.ask(call), setup.gate.ask(call)
    gone.cancel()
    alone = setup.gate.ask(setup.call("c"))
    alone.cancel()
    setup.line.release.set()
    decision = await stays
    await first
    assert decision is not None
    assert decision.states[0].remaining == 9
    assert [len(batch) for batch in setup.line.sent] == [1, 1]


async def test_a_request_cancelled_on_the_way_leaves_its_token_to_the_next(setup: Setup) -> None:
    call = setup.call()
    setup.line.tokens[call.keys[0]] = 1
    setup.line.release.clear()
    gone, stays = setup.gate.ask(call), setup.gate.ask(call)
    await settle()
    gone.cancel()
    setup.line.release.set()
    decision = await stays
    assert decision is not None
    assert decision.allowed


async def test_awaiting_and_cancelled_tasks_do_not_take_the_batch_with_them(setup: Setup) -> None:
    call = setup.call()

    async def ask() -> bool:
        decision = await setup.gate.ask(call)
        return bool(decision and decision.allowed)

    setup.line.release.clear()
    tasks = [asyncio.create_task(ask()) for _ in range(6)]
    await settle()
    for task in tasks[:3]:
        task.cancel()
    setup.line.release.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results[:3])
    assert results[3:] == [True] * 3
    assert repr(setup.gate) == "<Gate waiting=0 in_flight=0>"


async def test_batches_are_bounded_and_a_crowd_does_not_hold_up_the_others(setup: Setup) -> None:
    crowd = setup.call("crowd")
    setup.line.release.clear()
    first = setup.gate.ask(setup.call("first"))
    await settle()
    waiting = [setup.gate.ask(crowd) for _ in range(MOST_REQUESTS + 50)]
    waiting += [setup.gate.ask(setup.call(f"c{number}")) for number in range(MOST_CALLS + 10)]
    setup.line.release.set()
    await asyncio.gather(first, *waiting)
    sizes = [len(batch) for batch in setup.line.sent]
    assert max(sizes) <= MOST_CALLS
    crowd_in = [
        number for number, batch in enumerate(setup.line.sent)
        if any(crowd.keys[0].encode() in command for command in batch)
    ]  # fmt: skip
    # The crowd fills a batch; the rest of it comes after those who came after it.
    assert crowd_in == [1, len(sizes) - 1]


async def test_one_batch_at_a_time_where_the_way_is_short_two_where_it_is_long() -> None:
    for round_trip_s, at_once in ((0.0001, 1), (0.01, 2)):
        setup = Setup(lines=2)
        setup.contact._round_trip_s = round_trip_s
        for line in setup.lines:
            line.release.clear()
        waiting = []
        for name in "abc":
            waiting.append(setup.gate.ask(setup.call(name)))
            await settle()
        assert sum(len(line.sent) for line in setup.lines) == at_once
        for line in setup.lines:
            line.release.set()
        assert all(await asyncio.gather(*waiting))


async def test_a_forgotten_script_is_loaded_and_only_what_did_not_run_sent_again(
    setup: Setup,
) -> None:
    known, forgotten = setup.call("known"), setup.call("forgotten")

    def one_unknown(command: bytes) -> Any:
        if b"forgotten" in command:
            return NoScriptError("No matching script")
        return setup.line.reply(command)

    setup.line.script = [one_unknown]
    decisions = await asyncio.gather(setup.gate.ask(known), setup.gate.ask(forgotten))
    assert [d.states[0].remaining for d in decisions if d] == [9, 9]
    assert [len(batch) for batch in setup.line.sent] == [2, 2]
    assert setup.line.sent[1][0] == b"LOAD"


async def test_a_lost_batch_is_not_sent_again_and_leaves_its_requests_unanswered(
    setup: Setup,
) -> None:
    answered, lost = setup.call("answered"), setup.call("lost")
    setup.line.script = [lambda c: None if b"lost" in c else setup.line.reply(c)]
    decisions = await asyncio.gather(setup.gate.ask(answered), setup.gate.ask(lost))
    assert decisions[0] is not None
    assert decisions[1] is None
    assert len(setup.line.sent) == 1
    assert not setup.failures  # one lost reply is not an outage
    assert await setup.gate.ask(lost)


async def test_redis_is_given_up_after_failures_in_a_row_as_of_the_first(setup: Setup) -> None:
    setup.line.script = [StoreUnavailable() for _ in range(FAILURES_BEFORE_REST)]
    began_us = int(asyncio.get_running_loop().time() * 1_000_000)
    for _ in range(FAILURES_BEFORE_REST):
        assert await setup.gate.ask(setup.call()) is None
    assert len(setup.failures) == 1
    assert abs(setup.failures[0] - began_us) < 10_000_000
    sent = len(setup.line.sent)
    assert await setup.gate.ask(setup.call()) is None
    assert len(setup.line.sent) == sent


async def test_a_fault_in_a_batch_ends_neither_its_requests_nor_the_gate(setup: Setup) -> None:
    setup.line.script = [RuntimeError("a fault of the program")]
    assert await setup.gate.ask(setup.call()) is None
    assert await setup.gate.ask(setup.call())


async def test_an_error_reply_is_no_answer(setup: Setup) -> None:
    setup.line.script = [lambda _: ResponseError("OOM command not allowed")]
    assert await setup.gate.ask(setup.call()) is None


async def test_a_server_that_refuses_to_tell_the_time_in_scripts_is_asked_before(
    setup: Setup,
) -> None:
    refusal = ResponseError("This Redis command is not allowed from script")
    setup.line.script = [lambda _: refusal]
    assert await setup.gate.ask(setup.call())
    assert setup.clock.handed_in
    batches = [batch[0] for batch in setup.line.sent]
    assert [b"TIME" in command for command in batches] == [False, True, False]
    assert str(NOW_US // 1_000_000 * 1_000_000).encode() in batches[2]
    await setup.gate.ask(setup.call())
    assert len(setup.line.sent) == 5  # the time and the call


async def test_the_observer_hears_of_batches_and_of_lost_requests() -> None:
    class Observer:
        def __init__(self) -> None:
            self.sizes: list[int] = []
            self.lost = 0

        def round_trip(self, seconds: float, size: int) -> None:
            assert seconds >= 0
            self.sizes.append(size)

        def indeterminate(self, n: int) -> None:
            self.lost += n

        def local_denial(self) -> None: ...
        def mode(self, degraded: bool) -> None: ...

    setup, observer = Setup(), Observer()
    setup.gate._observer = observer
    call = setup.call()
    await asyncio.gather(*(setup.gate.ask(call) for _ in range(5)))
    setup.line.script = [lambda _: None]
    await asyncio.gather(*(setup.gate.ask(call) for _ in range(3)))
    assert (observer.sizes, observer.lost) == ([5], 3)


def test_the_same_bucket_twice_in_one_call_is_refused() -> None:
    charge = Charge(TEN, Subject("client", "a"))
    with pytest.raises(ValueError, match="twice"):
        Call(FakeScript(), (charge, replace(charge, cost=2)))  # type: ignore[arg-type]
