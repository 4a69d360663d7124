"""A generator in this process, against a tiny server that answers as its paths say."""

from __future__ import annotations

import asyncio
import base64
import re
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from scripts.load import scenario
from scripts.load.asking.alarm import alarm, now_s
from scripts.load.asking.crowd import RouteCrowd
from scripts.load.asking.generator import Generator
from scripts.load.asking.tally import histogram_of
from scripts.load.plan import Outcome, Plan, RouteOutcome
from scripts.load.principals import By
from scripts.loopback import LOOPBACK
from tests.support.listening import listening

#: How long /slow keeps its client waiting, and /stall everybody, once.
SLOW_S, STALL_S = 0.1, 0.3
BODY = b'{"type": "urn:tollgate:problem:quota-exceeded"}'


def answer(status: str, body: bytes = b"{}", *lines: str) -> bytes:
    fields = "".join(f"{line}\r\n" for line in (*lines, f"Content-Length: {len(body)}"))
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + body


POLICY = 'RateLimit-Policy: "flows";q=30;w=60'
ANSWERS = {
    "/ok": answer("200 OK", b"x" * 3000, POLICY),
    "/slow": answer("200 OK"),
    "/close": answer("200 OK", b"{}", "Connection: close"),
    "/denied": answer("429 Too Many Requests", BODY, POLICY),
    "/away": answer("503 Service Unavailable", b"", POLICY),
    "/broken": answer("500 Internal Server Error", b"oh", POLICY),
    "/mangled": answer("429 Too Many Requests", b'{"type": "urn:tollgate:problem:quota-\xff"}'),
    "/unchanged": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "/chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n4;x=1\r\ndefg\r\n0\r\n\r\n",
    "/until-closed": b"HTTP/1.1 200 OK\r\n\r\nall there is",
    "/garbage": b"\x00\x01\x02 what is this?\r\n\r\n",
    "/more": answer("200 OK") + b"and more than that",
}


@dataclass
class Tiny:
    """What it saw: a Counter of paths by the address that asked, and connections."""

    port: int = 0
    asked: Counter[tuple[str, str]] = field(default_factory=Counter)
    forwarded: Counter[str] = field(default_factory=Counter)
    connections: int = 0
    at_once: int = 0
    stalled: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        source = writer.get_extra_info("peername")[0]
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ")[1].decode()
            self.asked[path, source] += 1
            if name := re.search(rb"X-Forwarded-For: (\S+)", head):
                self.forwarded[name[1].decode()] += 1
            if not await self._answer(path, writer):
                break

    async def _answer(self, path: str, writer: asyncio.StreamWriter) -> bool:
        """False: and close the connection."""
        if path == "/reset":
            writer.transport.abort()
            return False
        if path == "/never":
            await asyncio.sleep(60)
        if path == "/slow":
            self.at_once += 1
            await asyncio.sleep(SLOW_S)
        if path == "/stall" and not self.stalled:
            self.stalled = True
            await asyncio.sleep(STALL_S)
        wire = ANSWERS.get(path, ANSWERS["/ok"])
        # In two pieces, as networks may cut it.
        writer.write(wire[:20])
        await writer.drain()
        await asyncio.sleep(0)
        writer.write(wire[20:])
        return path not in {"/close", "/until-closed"}


@asynccontextmanager
async def tiny() -> AsyncIterator[Tiny]:
    made = Tiny()
    async with listening(made.serve) as made.port:
        yield made


def plans(
    port: int,
    *paths: str,
    processes: int = 1,
    by: By = "source",
    seconds: float = 0.2,
    **group: Any,
) -> list[Plan]:
    written = {
        "name": "visitors",
        "connections": 8,
        "principals": 1,
        "timeout_s": 5,
        "schedule": {"kind": "constant", "rate": 250},
        "routes": [{"name": f"GET {path}", "path": path} for path in paths],
        **group,
    }
    made = scenario.parse(
        {"name": "x", "title": "x", "purpose": "x", "duration_s": 1, "groups": [written]}, "x.toml"
    )
    return [
        Plan(
            scenario=made, host=LOOPBACK, port=port, seconds=seconds, seed=3, factor=1,
            number=number, processes=processes, by=by, payment_url=None, network="Preprod", jobs=[],
        )
        for number in range(processes)
    ]  # fmt: skip


async def outcomes(made: Sequence[Plan]) -> list[Outcome]:
    generators = [Generator(plan) for plan in made]
    for generator in generators:
        await generator.warm()
    began_s = now_s() + 0.02
    return list(await asyncio.gather(*(generator.run(began_s) for generator in generators)))


async def route(made: Sequence[Plan]) -> RouteOutcome:
    (outcome,) = await outcomes(made)
    (only,) = outcome.routes
    return only


async def test_every_arrival_is_sent_and_answered_on_connections_that_are_kept() -> None:
    async with tiny() as server:
        found = await route(plans(server.port, "/ok"))

        assert found.kinds == {"ok": 50}
        assert found.statuses == {200: 50}
        assert server.asked.total() == 50
        assert server.connections == 8


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/ok", "ok"),
        ("/close", "ok"),
        ("/unchanged", "ok"),
        ("/chunks", "ok"),
        ("/until-closed", "ok"),
        ("/denied", "denied"),
        ("/away", "unavailable"),
        ("/broken", "failed"),
    ],
)
async def test_answers_of_every_form_are_read_and_sorted(path: str, kind: str) -> None:
    async with tiny() as server:
        found = await route(plans(server.port, path))

        assert found.kinds == {kind: 50}
        assert found.errors == {}
        assert server.asked.total() == 50


@pytest.mark.parametrize(
    ("path", "why"), [("/reset", "reset"), ("/garbage", "unreadable"), ("/more", "unreadable")]
)
async def test_a_connection_that_breaks_is_a_failure_by_its_name_and_the_run_goes_on(
    path: str, why: str
) -> None:
    async with tiny() as server:
        found = await route(plans(server.port, path))

        assert found.errors == {why: 50}
        assert found.kinds == {"failed": 50}
        assert server.asked.total() == 50


async def test_nobody_at_the_door_is_a_refusal() -> None:
    async with tiny() as server:
        port = server.port
    found = await route(plans(port, "/ok"))

    assert found.errors == {"refused": 50}


async def test_a_problem_that_is_no_text_ends_nothing() -> None:
    async with tiny() as server:
        found = await route(plans(server.port, "/mangled"))

        assert found.problems == {"quota-\N{REPLACEMENT CHARACTER}": 50}


def test_an_address_of_many_parts_is_named_as_hosts_are() -> None:
    (plan,) = plans(80, "/ok")
    crowd = RouteCrowd(plan.model_copy(update={"host": "::1"}), plan.scenario.groups[0], 0)

    assert b"\r\nHost: [::1]:80\r\n" in crowd.request("GET", "/ok", {}, 0)


async def test_an_answer_that_does_not_come_is_a_time_out_and_so_is_waiting_for_its_turn() -> None:
    async with tiny() as server:
        found = await route(plans(server.port, "/never", timeout_s=0.2, connections=2))

        assert found.errors == {"timeout": 50}
        assert server.asked.total() < 50


async def test_a_refusal_tells_its_problem() -> None:
    async with tiny() as server:
        found = await route(plans(server.port, "/denied"))

        assert found.problems == {"quota-exceeded": 50}
        assert histogram_of(found.refused).count == 50
        assert histogram_of(found.served).count == 0


async def test_latency_counts_from_when_a_request_was_due_not_from_when_it_was_sent() -> None:
    """One connection stands still for a while: all who wait for it meanwhile have waited."""
    async with tiny() as server:
        found = await route(plans(server.port, "/stall", connections=1, seconds=0.4))

        latencies = histogram_of(found.served)
        assert latencies.count == 100
        # 75 of the 100 were due during the stall; half of them waited for more than half of it.
        assert latencies.percentile_us(0.75) > STALL_S / 4 * 1e6
        assert latencies.percentile_us(0.95) > STALL_S / 2 * 1e6


async def test_requests_go_out_on_time_while_earlier_ones_are_unanswered() -> None:
    async with tiny() as server:
        found = await route(plans(server.port, "/slow", connections=100))

        latencies = histogram_of(found.served)
        assert found.kinds == {"ok": 50}
        # With one at a time the last would have waited for 50 × SLOW_S.
        assert latencies.percentile_us(1) < 20 * SLOW_S * 1e6


async def test_a_closed_loop_has_one_request_under_way_on_each_connection() -> None:
    async with tiny() as server:
        made = plans(
            server.port, "/slow", schedule={"kind": "closed"}, connections=4, seconds=SLOW_S * 3.5
        )
        found = await route(made)

        assert server.connections == 4
        assert 4 <= found.sent <= 16


async def test_a_closed_loop_ends_with_its_last_request_shared_by_all_processes() -> None:
    async with tiny() as server:
        schedule = {"kind": "closed", "requests": 101}
        found = await outcomes(
            plans(server.port, "/close", schedule=schedule, processes=2, seconds=30)
        )

        assert sum(one.routes[0].sent for one in found) == 101
        assert server.asked.total() == 101
        assert all(one.seconds < 20 for one in found)


async def test_each_principal_has_an_address_of_its_own() -> None:
    async with tiny() as server:
        await route(plans(server.port, "/ok", principals=10, connections=10))

        assert {source for _, source in server.asked} <= {f"127.1.0.{n}" for n in range(1, 11)}
        assert len(server.asked) > 5


async def test_principals_can_be_told_by_a_forwarding_field() -> None:
    async with tiny() as server:
        await route(plans(server.port, "/ok", by="forwarded", principals=10))

        assert {source for _, source in server.asked} == {LOOPBACK}
        assert server.forwarded.total() == 50
        assert len(server.forwarded) > 5


async def test_what_is_asked_does_not_depend_on_how_many_processes_ask() -> None:
    async with tiny() as one, tiny() as three:
        group: dict[str, Any] = {
            "principals": 7, "connections": 7, "schedule": {"kind": "poisson", "rate": 250}
        }  # fmt: skip
        await outcomes(plans(one.port, "/ok", "/close", "/denied", **group))
        await outcomes(plans(three.port, "/ok", "/close", "/denied", processes=3, **group))

        assert one.asked == three.asked
        assert one.asked.total() > 30


async def test_admissions_are_told_with_both_of_their_moments() -> None:
    async with tiny() as server:
        before_s = now_s()
        found = await outcomes(
            plans(server.port, "/ok", "/denied", "/away", "/broken", seconds=0.4)
        )
        after_s = now_s()

        (admitted,) = found[0].admitted
        sent, answered = _moments(admitted.sent), _moments(admitted.answered)
        by_route = {one.route: one.kinds for one in found[0].routes}
        assert admitted.policies == '"flows";q=30;w=60'
        assert admitted.principal == "127.1.0.1"
        assert admitted.offered == 100
        # What was denied, and what failed, was not let in for certain.
        assert len(sent) == len(answered) == by_route["GET /ok"]["ok"]
        assert all(before_s <= s <= a <= after_s for s, a in zip(sent, answered, strict=True))


async def test_seconds_told_add_up_to_the_outcome(capsys: pytest.CaptureFixture[str]) -> None:
    async with tiny() as server:
        found = await route(plans(server.port, "/ok", seconds=1.2))

    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert len(told) == 2
    assert found.kinds == {"ok": 300}
    assert sum(int(re.findall(r'"due":(\d+)', line)[0]) for line in told) == 300
    assert sum(int(re.findall(r'"ok":(\d+)', line)[0]) for line in told) == 300


async def test_an_alarm_rings_once_for_each_time_it_is_set_and_not_too_early() -> None:
    rung: list[float] = []
    ring = asyncio.Event()

    def hear() -> None:
        rung.append(now_s())
        ring.set()

    with alarm(hear) as bell:
        for after_s in (0.03, -1.0, 0.0):
            ring.clear()
            at_s = now_s() + after_s
            bell.set(at_s)
            await asyncio.wait_for(ring.wait(), 5)
            assert rung[-1] >= at_s
    assert len(rung) == 3


def _moments(text: str) -> array[float]:
    return array("d", base64.b64decode(text))
