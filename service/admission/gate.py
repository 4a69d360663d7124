"""The gate in front of one Redis node: who arrives while a call is on its way goes with the next.

There is no timer. An idle gate sends at once; a busy one collects, so a batch is as large as load
times round trip makes it. Like requests (the same charges) become one call that asks for several;
different calls share a round trip, and each is decided by itself. Measured at 64 requests at once:
about 4 µs of CPU a request where they are alike, 9 µs where all differ, 50 µs and more if each
called Redis alone.

Guarantees. A call is sent once; only what provably did not run (NOSCRIPT, a refusal to tell the
time, a redirect in a cluster, a server that cannot serve where another may) is sent again. A lost
batch, and the deadline is the batch's, leaves its requests unanswered (None), whose judge is
``on_outage``. A request cancelled while it waits is not charged; cancelled later, its token goes to
the next of its kind, or is spent. Whatever happens to one request, the batch goes on. First come,
first served, but for those who ride along.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import NoScriptError, ResponseError

from service.admission.call import Call
from service.admission.clock import ScriptClock
from service.admission.contact import Contact
from service.admission.denials import Denials
from service.admission.models import Decision
from service.admission.observer import LimiterObserver
from service.store.complaints import Complaints
from service.store.refusals import is_redirect, is_unfit

if TYPE_CHECKING:
    from service.store.line import Line
    from service.store.scripts import Script

log = structlog.get_logger()

#: What one lost batch may cost, and how long one may keep Redis (64 calls: about 0.4 ms).
MOST_REQUESTS = 256
MOST_CALLS = 64

_Waiting = asyncio.Future["Decision | None"]


class Gate:
    """``ask`` for a decision."""

    def __init__(
        self,
        lines: Sequence[Line],
        script: Script,
        clock: ScriptClock,
        denials: Denials,
        contact: Contact,
        *,
        redirect: Callable[[Call, int], Awaitable[Any]] | None = None,
        observer: LimiterObserver | None = None,
    ) -> None:
        # Not asked for with each request: Python then asks the kernel for the process's id.
        self._loop = asyncio.get_running_loop()
        self._idle_lines = list(lines)
        self._load = script.packed_load()
        self._clock = clock
        self._denials = denials
        self._contact = contact
        self._redirect = redirect
        self._observer = observer
        self._waiting: dict[Call, list[_Waiting]] = {}
        self._in_flight = 0
        self._complaints = Complaints()
        #: The script, while the node does not know it: goes before the calls.
        self._unknown: list[bytes] = []
        self._senders: set[asyncio.Task[None]] = set()

    def ask(self, call: Call) -> _Waiting:
        """The decision to come; None in its place: there was no answer."""
        waiting: _Waiting = self._loop.create_future()
        alike = self._waiting.get(call)
        if alike is not None:
            alike.append(waiting)
            return waiting
        self._waiting[call] = [waiting]
        if not self._in_flight or (self._idle_lines and self._contact.is_far):
            self._in_flight += 1
            # An empty context: the batch belongs to no request, nor does its deadline.
            sender = self._loop.create_task(self._send(self._idle_lines.pop()), context=Context())
            self._senders.add(sender)
            sender.add_done_callback(self._senders.discard)
        return waiting

    async def close(self) -> None:
        """Let what is on its way arrive."""
        await asyncio.gather(*self._senders, return_exceptions=True)

    async def _send(self, line: Line) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                try:
                    await self._decide(line, batch)
                except Exception:
                    log.exception("limiter_batch_failed")
                finally:
                    unanswered = sum(_resolve(alike, ()) for alike in batch.values())
                    if unanswered and self._observer is not None:
                        self._observer.indeterminate(unanswered)
        finally:
            self._in_flight -= 1
            self._idle_lines.append(line)

    def _next_batch(self) -> dict[Call, list[_Waiting]]:
        """The calls that have waited longest; nobody cancelled is asked for."""
        batch: dict[Call, list[_Waiting]] = {}
        free = MOST_REQUESTS
        for call in list(islice(self._waiting, MOST_CALLS)):
            if not free:
                break
            alike = [waiting for waiting in self._waiting.pop(call) if not waiting.done()]
            if len(alike) > free:
                # To the end of the queue: a crowd on one bucket must not keep the others waiting.
                self._waiting[call] = alike[free:]
                del alike[free:]
            if alike:
                batch[call] = alike
                free -= len(alike)
        return batch

    async def _decide(self, line: Line, batch: dict[Call, list[_Waiting]]) -> None:
        left = batch
        for _ in range(3):  # as it is; with the script, if unknown; with the time, if refused
            if not left:
                return
            asked = {call: len(alike) for call, alike in left.items()}
            sent_us = time.monotonic_ns() // 1000
            replies = await self._replies(line, asked)
            received_us = time.monotonic_ns() // 1000
            batch, left = left, {}
            for (call, alike), reply in zip(batch.items(), replies, strict=True):
                if isinstance(reply, list):
                    for key, ahead_us in call.arrivals(reply):
                        self._denials.hear(key, ahead_us, sent_us, received_us)
                    _resolve(alike, call.decisions(reply, asked[call]))
                    self._unknown = []
                elif isinstance(reply, NoScriptError):
                    left[call], self._unknown = alike, [self._load]
                elif self._clock.refused(reply):
                    left[call] = alike
                elif reply is not None:
                    self._complain(str(reply)[:200])

    def _complain(self, reply: str) -> None:
        if times := self._complaints.due(reply):
            log.error("limiter_refused", reply=reply, times=times)

    async def _replies(self, line: Line, asked: dict[Call, int]) -> list[Any]:
        begun_s = time.monotonic()
        now_us = await self._clock.now_us(partial(self._contact.exchange, line))
        if now_us is None:
            return [None] * len(asked)
        load = self._unknown
        commands = load + [call.command(number, now_us) for call, number in asked.items()]
        replies = await self._contact.exchange(line, commands)
        if load and isinstance(replies[0], ResponseError):
            self._complain(str(replies[0])[:200])
        del replies[: len(load)]
        await self._follow(asked, replies)
        if self._observer is not None and replies[-1] is not None:
            self._observer.round_trip(time.monotonic() - begun_s, sum(asked.values()))
        return replies

    async def _follow(self, asked: dict[Call, int], replies: list[Any]) -> None:
        """Ask elsewhere for the calls that were refused here, all at once."""
        redirect = self._redirect
        if redirect is None:
            return
        refused = [
            (place, redirect(call, number))
            for place, (call, number) in enumerate(asked.items())
            if is_redirect(replies[place]) or is_unfit(replies[place])
        ]
        answers = await asyncio.gather(*(answer for _, answer in refused))
        for (place, _), answer in zip(refused, answers, strict=True):
            replies[place] = answer

    def __repr__(self) -> str:
        waiting = sum(map(len, self._waiting.values()))
        return f"<Gate waiting={waiting} in_flight={self._in_flight}>"


def _resolve(alike: Sequence[_Waiting], decisions: Sequence[Decision]) -> int:
    """The first decision to the first still waiting; None to those for whom there is none."""
    unanswered = 0
    number = 0
    for waiting in alike:
        if waiting.done():
            continue
        if number < len(decisions):
            waiting.set_result(decisions[number])
            number += 1
        else:
            waiting.set_result(None)
            unanswered += 1
    return unanswered
