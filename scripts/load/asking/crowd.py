"""The clients of one group, as far as this process plays them."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect
from collections.abc import Iterator, Mapping
from itertools import accumulate

from scripts.load.asking.alarm import now_s
from scripts.load.asking.connection import Answer, Connection
from scripts.load.asking.histogram import Histogram
from scripts.load.asking.lanes import Lane, Ticket
from scripts.load.asking.tally import GroupTally, RouteTally
from scripts.load.plan import Plan
from scripts.load.principals import address
from scripts.load.scenario import JOB, Group
from scripts.load.schedule import Closed, arrivals

#: So many are opened at once before the run.
_WARMED_AT_ONCE = 100
#: With fewer principals each gets all of its connections before the run, else one.
_FEW = 20
#: A connection in a closed loop that was refused asks again.
PAUSE_S = 0.05


class Crowd:
    """Connections, requests and counts of a group; ``first`` is the number of its first client."""

    def __init__(self, plan: Plan, group: Group, first: int) -> None:
        self.plan = plan
        self.group = group
        self.tally = GroupTally(group.name)
        #: Sent later than due though nothing but this process kept them.
        self.late = Histogram()
        self._first = first
        self._split = group.principals >= plan.processes
        self._lanes: dict[int, Lane] = {}

    def arrivals(self) -> Iterator[tuple[float, int, float]]:
        """Moment, principal, and a number from 0 to 1 that decides what is asked: of this process.

        All processes draw the same ones and each takes its own: what is asked does not depend on
        how many there are.
        """
        plan, group = self.plan, self.group
        if isinstance(group.schedule, Closed):
            return
        rng = random.Random(f"{plan.seed}:{group.name}")  # noqa: S311 (no secret)
        who = random.Random(f"{plan.seed}:{group.name}:who")  # noqa: S311
        length_s = (group.ends - group.begins) * plan.seconds
        moments = arrivals(group.schedule, length_s, rng, factor=plan.factor)
        for number, at_s in enumerate(moments):
            principal, choice = who.randrange(group.principals), who.random()
            if (principal if self._split else number) % plan.processes == plan.number:
                yield group.begins * plan.seconds + at_s, principal, choice

    async def warm(self) -> None:
        """Open connections, so that the run does not begin with a storm of them."""
        principals = self._principals()
        for start in range(0, len(principals), _WARMED_AT_ONCE):
            some = principals[start : start + _WARMED_AT_ONCE]
            await asyncio.gather(*(self._warm(principal) for principal in some))

    def lane(self, principal: int) -> Lane:
        """This principal's own, or the one of all who share."""
        owner = principal if self.plan.by == "source" else 0
        lane = self._lanes.get(owner)
        if lane is None:
            lane = self._lanes[owner] = self._make_lane(owner)
        return lane

    def send(self, ticket: Ticket) -> None:
        self.lane(ticket.principal).send(ticket)
        if ticket.free:
            self.late.record(int((ticket.sent_s - ticket.due_s) * 1e6))

    def request(
        self, method: str, path: str, fields: Mapping[str, str], principal: int, body: bytes = b""
    ) -> bytes:
        host = f"[{self.plan.host}]" if ":" in self.plan.host else self.plan.host
        fields = {"Host": f"{host}:{self.plan.port}", **fields}
        if self.plan.by == "forwarded":
            fields["X-Forwarded-For"] = self.address(principal)
        if body:
            fields |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body

    def address(self, principal: int) -> str:
        return address(self._first + principal, self.plan.by)

    def sweep(self, at_s: float) -> None:
        for lane in self._lanes.values():
            lane.sweep(at_s)

    def close(self) -> None:
        for lane in self._lanes.values():
            lane.close()

    def _principals(self) -> list[int]:
        if self.plan.by == "forwarded":
            return [0]
        everybody = range(self.group.principals)
        return list(
            everybody[self.plan.number :: self.plan.processes] if self._split else everybody
        )

    async def _warm(self, principal: int) -> None:
        lane = self.lane(principal)
        few = len(self._principals()) < _FEW
        await lane.warm(lane.most if few else 1)

    def _make_lane(self, owner: int) -> Lane:
        plan, group = self.plan, self.group
        if plan.by == "source" and self._split:
            most = group.connections // group.principals
        else:
            shared = (
                group.connections
                if plan.by == "forwarded"
                else (group.connections // group.principals)
            )
            most = shared // plan.processes + (plan.number < shared % plan.processes)
        loop = asyncio.get_running_loop()
        local = (self.address(owner), 0) if plan.by == "source" else None

        async def opener(connection: Connection) -> object:
            return await loop.create_connection(
                lambda: connection, plan.host, plan.port, local_addr=local
            )

        return Lane(opener, max(1, most), group.timeout_s)


class Asked(Ticket):
    """A request that is counted: for its group, its route and its principal."""

    __slots__ = ("_crowd", "_route")

    def __init__(
        self, crowd: Crowd, route: RouteTally, request: bytes, due_s: float, principal: int
    ) -> None:
        super().__init__(request, due_s, principal)
        self._crowd = crowd
        self._route = route
        crowd.tally.due += 1
        crowd.tally.in_flight += 1
        route.sent += 1

    def answered(self, answer: Answer, at_s: float) -> None:
        self._crowd.tally.in_flight -= 1
        self._route.answered(answer, self.due_s, self.sent_s, at_s, self.principal)

    def failed(self, why: str, at_s: float) -> None:
        self._crowd.tally.in_flight -= 1
        self._route.failed(why)


class _Looped(Asked):
    """One that is followed by the next on its connection."""

    __slots__ = ("_loop",)

    def __init__(
        self, loop: RouteCrowd, route: RouteTally, request: bytes, due_s: float, principal: int
    ) -> None:
        super().__init__(loop, route, request, due_s, principal)
        self._loop = loop

    def answered(self, answer: Answer, at_s: float) -> None:
        super().answered(answer, at_s)
        self._loop.again(self.principal, at_s)

    def failed(self, why: str, at_s: float) -> None:
        super().failed(why, at_s)
        asyncio.get_running_loop().call_later(
            PAUSE_S, lambda: self._loop.again(self.principal, now_s())
        )


class RouteCrowd(Crowd):
    """Clients who ask for routes, each by its weight."""

    def __init__(self, plan: Plan, group: Group, first: int) -> None:
        super().__init__(plan, group, first)
        self._tallies = [self.tally.route(route.name) for route in group.routes]
        weights = list(accumulate(route.weight for route in group.routes))
        self._shares = [weight / weights[-1] for weight in weights]
        self._bytes: dict[tuple[int, int], bytes] = {}
        self._end_s = 0.0
        self._left: int | None = None

    def ask(self, due_s: float, principal: int, choice: float) -> None:
        number = min(bisect(self._shares, choice), len(self._shares) - 1)
        request = self._request(number, principal, choice)
        self.send(Asked(self, self._tallies[number], request, due_s, principal))

    def begin_loop(self, end_s: float) -> None:
        """Every connection asks as soon as it is answered; the group has a closed schedule."""
        assert isinstance(self.group.schedule, Closed)  # noqa: S101 (the caller looked)
        self._end_s = end_s
        requests = self.group.schedule.requests
        if requests is not None:
            processes, number = self.plan.processes, self.plan.number
            self._left = requests // processes + (number < requests % processes)
        for principal in self._principals():
            for _ in range(self.lane(principal).most):
                self.again(principal, now_s())

    @property
    def asking(self) -> bool:
        """Whether its closed loop has not come to its end."""
        return self._left != 0 or self.tally.in_flight > 0

    def again(self, principal: int, at_s: float) -> None:
        if at_s >= self._end_s or self._left == 0:
            return
        if self._left is not None:
            self._left -= 1
        tally, request = self._tallies[0], self._request(0, principal, 0.0)
        self.send(_Looped(self, tally, request, at_s, principal))

    def _request(self, number: int, principal: int, choice: float) -> bytes:
        route = self.group.routes[number]
        jobs = self.plan.jobs if JOB in route.path else [""]
        job = int(choice * 1e6) % len(jobs)
        path = route.path.replace(JOB, jobs[job])
        if self.plan.by == "forwarded":  # it names the principal
            return self.request("GET", path, route.headers, principal)
        request = self._bytes.get((number, job))
        if request is None:
            request = self._bytes[number, job] = self.request("GET", path, route.headers, principal)
        return request
