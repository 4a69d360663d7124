"""Whether the configured API key can do what selling needs; found out before a purchaser does."""

from __future__ import annotations

import time
from typing import Literal, Protocol

import structlog

from service.errors import DeadlineExceeded, DependencyError, PaymentMisconfigured
from service.payments.models import KeyStatus

log = structlog.get_logger()

#: How often to ask: while it is not known, while something is wrong with it, while it is good.
UNKNOWN_S = 60.0
UNUSABLE_S = 180.0
USABLE_S = 3600.0

State = Literal["unknown", "usable", "unusable"]
PERIODS_S: dict[State, float] = {
    "unknown": UNKNOWN_S,
    "unusable": UNUSABLE_S,
    "usable": USABLE_S,
}


class KeyReader(Protocol):
    async def check_key(self) -> KeyStatus: ...


class KeyWatch:
    """Call ``tick`` every now and then (a Loop does): it asks when it is time to."""

    def __init__(self, gateway: KeyReader, *, network: str) -> None:
        self._gateway = gateway
        self._network = network
        self._next_s = 0.0
        self.state: State = "unknown"
        #: What is wrong with it, in words.
        self.fault: str | None = None

    def __repr__(self) -> str:
        return f"<KeyWatch {self.state}>"

    async def tick(self) -> bool:
        if time.monotonic() >= self._next_s:
            await self._ask()
            self._next_s = time.monotonic() + PERIODS_S[self.state]
        return False

    async def _ask(self) -> None:
        try:
            fault = _fault(await self._gateway.check_key(), self._network)
        except PaymentMisconfigured:
            fault = "the payment service does not know the key"
        except (DependencyError, DeadlineExceeded) as error:
            # Says nothing about the key; what was known of it still holds.
            log.debug("payment_key_not_checked", code=error.code)
            return
        if fault is not None:
            log.error("payment_key_unusable", fault=fault, network=self._network)
        elif self.state == "unusable":
            log.info("payment_key_usable")
        self.state = "usable" if fault is None else "unusable"
        self.fault = fault


def _fault(key: KeyStatus, network: str) -> str | None:
    if not key.active:
        return "the key is revoked"
    if not key.can_read:
        return "the key may not read payments"
    if not key.can_pay:
        return "the key may not ask for payments"
    # An older service does not say which networks; then only a call can tell.
    if key.networks and network not in key.networks:
        return f"the key is for {', '.join(key.networks)} only"
    return None
