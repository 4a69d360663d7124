"""``tollgate breaker``, as an operator sees it."""

from __future__ import annotations

import asyncio
import re

import pytest

from service.breaker.breaker import Breaker
from service.breaker.models import Outcome
from service.errors import CircuitOpen
from service.settings import BreakerSettings
from service.store.client import Store
from tests.support.commands import tollgate

OK, FAILED, WRONG = 0, 1, 2


class Operator:
    """Types ``tollgate breaker …``."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url

    def __call__(self, *arguments: str, code: int = OK) -> str:
        """What is said: on stdout, or on stderr where it is to fail."""
        variables = {"TOLLGATE_REDIS__URL": self._redis_url, "TOLLGATE_REDIS__TIMEOUT": "5"}
        done = tollgate("breaker", *arguments, environment=variables)
        assert done.returncode == code, done.stderr
        return done.stdout if code == OK else done.stderr


@pytest.fixture
def told(redis_url: str) -> Operator:
    return Operator(redis_url)


def test_show_of_a_breaker_never_used(told: Operator) -> None:
    shown = told("show")
    assert re.search(r"(?m)^state +closed$", shown)
    assert re.search(r"(?m)^failures +0 attempts in a row, of 3 that open it$", shown)
    assert "CAUSE" not in shown


def test_force_and_reset_are_shown_with_who_and_why(told: Operator) -> None:
    told("force", "open", "--for", "600", "--reason", "they \x1b[31mmigrate")
    shown = told("show")
    assert re.search(r"(?m)^state +open \(forced by an operator\)$", shown)
    assert re.search(r"(?m)^held by +\S+@\S+ for another (600|59\d) s$", shown)
    assert re.search(r"(?m)^because +they \\x1b\[31mmigrate$", shown)
    told("reset", "--reason", "all well")
    shown = told("show", "--events", "1")
    assert re.search(r"(?m)^state +closed$", shown)
    events = shown.split("DETAIL\n")[1].splitlines()
    assert len(events) == 1
    assert re.search(r"^\S+ \S+ +open +closed +reset +\S+@\S+ +all well$", events[0])
    assert "forced  " in told("show")
    assert "for 600 s: they" in told("show")


@pytest.mark.parametrize(
    "arguments",
    [
        ("force", "open", "--for", "0", "--reason", "x"),
        ("force", "open", "--for", "9", "--reason", " "),
    ],
)
def test_a_force_needs_a_time_and_a_reason(told: Operator, arguments: tuple[str, ...]) -> None:
    assert "must" in told(*arguments, code=WRONG)
    assert re.search(r"(?m)^state +closed$", told("show"))


@pytest.mark.parametrize("command", [("reset",), ("force", "open", "--for", "9", "--reason", "x")])
def test_a_command_that_redis_did_not_take_fails(command: tuple[str, ...]) -> None:
    told = Operator("redis://127.0.0.1:1/0")
    assert "Redis cannot be reached" in told(*command, code=FAILED)


async def test_show_tells_what_opened_it(store: Store, told: Operator) -> None:
    breaker = Breaker("payment", BreakerSettings(), store)
    for _ in range(3):
        await breaker.report(await breaker.acquire(), Outcome.FAIL, detail="timed-out")
    with pytest.raises(CircuitOpen):
        await breaker.acquire()
    shown = await asyncio.to_thread(told, "show")
    assert re.search(r"(?m)^state +open$", shown)
    assert re.search(r"(?m)^retry in +\d+\.\d s$", shown)
    assert re.search(r"(?m)^last error +timed-out$", shown)
    assert re.search(r"(?m)closed +open +failures +\S+ +timed-out$", shown)
