"""Which connection a request goes out on, and what it waits for."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from scripts.load.asking.alarm import now_s
from scripts.load.asking.connection import Answer, Connection

#: A connection that was idle for longer may just be being closed by the other side (75 s there).
MOST_IDLE_S = 50.0
SWEEP_S = 0.25


class Ticket:
    """One request: due, sent, and (once it is told) over."""

    __slots__ = ("due_s", "free", "principal", "request", "sent_s")

    def __init__(self, request: bytes, due_s: float, principal: int) -> None:
        self.request = request
        self.due_s = due_s
        self.principal = principal
        self.sent_s = 0.0
        #: It found a connection at once: whatever kept it was the generator.
        self.free = False

    def answered(self, answer: Answer, at_s: float) -> None:
        """It came."""

    def failed(self, why: str, at_s: float) -> None:
        """refused, reset, timeout or unreadable."""


class Opener(Protocol):
    """``loop.create_connection`` with everything but the protocol said."""

    async def __call__(self, connection: Connection) -> object: ...


class Lane:
    """The connections of one principal, or those that all share; at most ``most`` of them."""

    __slots__ = ("_idle", "_opener", "_timeout_s", "_waiting", "busy", "most", "open")

    def __init__(self, opener: Opener, most: int, timeout_s: float) -> None:
        self._opener = opener
        self._timeout_s = timeout_s
        self.most = most
        self.open = 0
        self.busy: dict[Connection, Ticket] = {}
        self._idle: dict[Connection, float] = {}
        self._waiting: deque[Ticket] = deque()

    async def warm(self, count: int) -> None:
        """Connections before anybody needs them; those that cannot be made are missed later."""
        self.open += count
        await asyncio.gather(*(self._warmed() for _ in range(count)))

    def send(self, ticket: Ticket) -> None:
        """On a free connection, on a new one, or when one gets free."""
        while self._idle:
            connection, since_s = self._idle.popitem()
            if now_s() - since_s < MOST_IDLE_S:
                ticket.free = True
                self._ask(connection, ticket)
                return
            self._leave(connection)
        self._waiting.append(ticket)
        if self.open < self.most:
            self._open()

    def sweep(self, at_s: float) -> None:
        """End what waits too long, for its answer or for its turn."""
        before_s = at_s - self._timeout_s
        late = [c for c, ticket in self.busy.items() if ticket.sent_s < before_s]
        for connection in late:
            connection.give_up("timeout")
        while self._waiting and self._waiting[0].due_s < before_s:
            self._waiting.popleft().failed("timeout", at_s)

    def close(self) -> None:
        for connection in (*self._idle, *self.busy):
            connection.close()

    # An Owner of connections.

    def answered(self, connection: Connection, answer: Answer) -> None:
        ticket = self.busy.pop(connection)
        if not answer.goes_on:
            self._leave(connection)
        elif self._waiting:
            self._ask(connection, self._waiting.popleft())
        else:
            self._idle[connection] = now_s()
        ticket.answered(answer, now_s())

    def lost(self, connection: Connection, why: str | None) -> None:
        if connection not in self._idle and connection not in self.busy:
            return  # while it was being made: who made it sees that it is over
        self.open -= 1
        self._idle.pop(connection, None)
        ticket = self.busy.pop(connection, None)
        if self._waiting:
            self._open()
        if ticket is not None:
            ticket.failed(why or "reset", now_s())

    def _ask(self, connection: Connection, ticket: Ticket) -> None:
        self.busy[connection] = ticket
        ticket.sent_s = now_s()
        connection.ask(ticket.request)

    def _leave(self, connection: Connection) -> None:
        connection.close()
        self.open -= 1
        if self._waiting and self.open < self.most:
            self._open()

    def _open(self) -> None:
        self.open += 1
        task = asyncio.get_running_loop().create_task(self._opened())
        _opening.add(task)
        task.add_done_callback(_opening.discard)

    async def _warmed(self) -> None:
        made = await self._connected()
        if isinstance(made, Connection):
            self._idle[made] = now_s()
        else:
            self.open -= 1

    async def _opened(self) -> None:
        made = await self._connected()
        if isinstance(made, str):
            self.open -= 1
            if self._waiting:
                self._waiting.popleft().failed(made, now_s())
            if self._waiting:
                self._open()
        elif self._waiting:
            self._ask(made, self._waiting.popleft())
        else:
            self._idle[made] = now_s()

    async def _connected(self) -> Connection | str:
        """Or why there is none."""
        connection = Connection(self)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._opener(connection)
        except TimeoutError:
            return "timeout"
        except ConnectionResetError:
            return "reset"
        except OSError:
            return "refused"
        return "reset" if connection.over else connection


#: Held: a loop knows its tasks only weakly.
_opening: set[asyncio.Task[None]] = set()
