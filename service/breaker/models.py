"""The words of the breaker: outcome, permit, snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

State = Literal["closed", "open", "half-open"]


class Outcome(StrEnum):
    """What a call says about the dependency's health."""

    #: It answered, even if it refused what was asked.
    OK = "ok"
    #: It did not answer, answered too late, or said itself that it failed.
    FAIL = "fail"
    #: Nothing: we gave up, or it asked us to slow down.
    NEUTRAL = "neutral"


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to one call, to be reported; ``local`` when this worker decided alone."""

    generation: int
    token: str
    mode: Literal["normal", "probe", "forced", "local"]


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """What the next caller would meet.

    ``streak``: failures in a row. ``retry_after_ms``: 0 unless calls are refused now. ``forced``:
    an operator holds it in this state. ``degraded``: this worker's own view, without Redis.
    """

    state: State
    streak: int
    retry_after_ms: int
    generation: int
    forced: bool = False
    degraded: bool = False
