"""What the sandbox's handlers share."""

from __future__ import annotations

import contextlib
import hmac
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from scripts.sandbox.agents import Agents
from scripts.sandbox.faults import Fault, Faults
from scripts.sandbox.journal import Journal
from scripts.sandbox.ledger import Ledger
from scripts.sandbox.life import Pace
from scripts.sandbox.requests import Refusal

#: Enough for every drill; a sandbox that runs for weeks must not grow by it.
DIARY_LENGTH = 10_000

#: The faults one request meets.
FAULTS = web.RequestKey("faults", list[Fault])


@dataclass(frozen=True, slots=True)
class Options:
    api_key: str = "sandbox"
    #: A key that may read but not pay.
    read_key: str | None = None
    network: str = "Preprod"
    #: None: a payment is paid only on demand.
    pay_after_s: float | None = 1.0
    confirm_after_s: float = 1.0
    #: The real service lets a refused key wait up to this long, at random.
    refusal_delay_s: float = 0.0
    state: Path | None = None

    def pace(self) -> Pace:
        pay_ms = None if self.pay_after_s is None else round(self.pay_after_s * 1000)
        return Pace(pay_ms, round(self.confirm_after_s * 1000))


@dataclass(slots=True)
class Call:
    """One request received; moments of the monotonic clock."""

    route: str
    came_s: float
    #: None while it is still held.
    left_s: float | None = None


@dataclass(slots=True)
class Sandbox:
    options: Options
    ledger: Ledger = field(init=False)
    agents: Agents = field(default_factory=Agents)
    faults: Faults = field(default_factory=Faults)
    #: Requests received, by route.
    calls: Counter[str] = field(default_factory=Counter)
    #: The latest of them with their moments, oldest first.
    diary: deque[Call] = field(default_factory=lambda: deque(maxlen=DIARY_LENGTH))

    def __post_init__(self) -> None:
        state = self.options.state
        self.ledger = Ledger(self.options.pace(), Journal(state) if state else None)

    @property
    def network(self) -> str:
        return self.options.network

    @contextlib.contextmanager
    def noted(self, route: str) -> Iterator[None]:
        """Count a request while it is here, and write down when."""
        self.calls[route] += 1
        call = Call(route, time.monotonic())
        self.diary.append(call)
        try:
            yield
        finally:
            call.left_s = time.monotonic()

    def may_read(self, key: str | None) -> bool:
        read_key = self.options.read_key
        return self.may_pay(key) or (read_key is not None and _same(key, read_key))

    def may_pay(self, key: str | None) -> bool:
        return _same(key, self.options.api_key)

    def check_network(self, network: str) -> None:
        if network not in {"Preprod", "Mainnet"}:
            raise Refusal(400, "network: must be Preprod or Mainnet")
        if network != self.network:
            raise Refusal(401, "Unauthorized, network not allowed")


SANDBOX = web.AppKey("sandbox", Sandbox)


def _same(key: str | None, expected: str) -> bool:
    return key is not None and hmac.compare_digest(key.encode(), expected.encode())
