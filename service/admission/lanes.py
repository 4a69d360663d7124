"""One lane for each Redis node: its gate, its outage, and the way a request takes between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from service.admission import fallback
from service.admission.call import Call
from service.admission.clock import ScriptClock
from service.admission.contact import Contact
from service.admission.denials import Denials
from service.admission.fallback import Place
from service.admission.gate import Gate
from service.admission.models import Decision
from service.admission.node import Node
from service.admission.observer import LimiterObserver
from service.admission.settlement import Outage
from service.errors import StoreUnavailable
from service.store.client import Store
from service.store.scripts import Script


class Lane:
    """Decides what belongs to one node."""

    def __init__(self, gate: Gate, outage: Outage) -> None:
        self.gate = gate
        self.outage = outage

    async def take(self, call: Call) -> Decision:
        """By Redis, by this worker's share while Redis is away, by both while that is settled."""
        outage = self.outage
        if outage.mode != "fleet":
            own = outage.share.take(call.charges, redis_back=outage.mode == "settling")
            if outage.mode == "away" or not own.allowed:
                return own
        decision = await self.gate.ask(call)
        if decision is not None:
            return decision
        if self.outage.mode == "away":
            return outage.share.take(call.charges)
        return fallback.unanswered(call.charges)


class Lanes:
    """By node, each made when its first key is asked for; on a single server there is one."""

    def __init__(
        self,
        store: Store,
        take: Script,
        settle: Script,
        clock: ScriptClock,
        denials: Denials,
        *,
        place: Callable[[], Place],
        observer: LimiterObserver | None,
    ) -> None:
        self._store = store
        self._take = take
        self._settle = settle
        self._clock = clock
        self._denials = denials
        self._place = place
        self._observer = observer
        self._by_node: dict[str, Lane] = {}

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._by_node.values()))

    def of(self, call: Call) -> Lane:
        """The lane of the node that holds the call's buckets."""
        node = self._store.node_of(call.keys[0])
        return self._by_node.get(node) or self._open(node)

    def open_known(self) -> None:
        """The lanes of all nodes there are, before anybody asks."""
        for node in self._store.nodes():
            if node not in self._by_node:
                self._open(node)

    async def close(self) -> None:
        """Settle what is owed, as far as Redis answers, and let what is on its way arrive."""
        for lane in self:
            await lane.outage.stop()
        await asyncio.gather(*(lane.gate.close() for lane in self))

    def _open(self, node: str) -> Lane:
        def failed(since_us: int) -> None:
            outage.begin(since_us)

        contact = Contact(failed)
        gate = Gate(
            [self._store.line(node), self._store.line(node)],
            self._take,
            self._clock,
            self._denials,
            contact,
            redirect=self._redirected if self._store.follows else None,
            observer=self._observer,
        )
        far = Node(
            self._store,
            node,
            partial(contact.exchange, self._store.line(node), always=True),
            self._settle,
            self._clock,
            self._denials,
        )

        def changed() -> None:
            if outage.mode == "fleet" and far.gone:
                self._by_node.pop(node, None)

        outage = Outage(far, place=self._place, changed=changed)
        lane = self._by_node[node] = Lane(gate, outage)
        return lane

    async def _redirected(self, call: Call, asked: int) -> Any:
        """A call that was refused has not run: again, through the client that finds the way."""
        now_us = 0
        terms = [term for charge in call.charges for term in charge.terms]
        try:
            if self._clock.handed_in:
                seconds, micros = await self._store.run(self._store.client.time)
                now_us = seconds * 1_000_000 + micros
            return await self._take(call.keys, [now_us, asked, *terms])
        except StoreUnavailable:
            return None
