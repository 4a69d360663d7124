"""The words of the breaker: outcome, permit, ruling, event, snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
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
class Refusal:
    """No permit: why, and when asking again is worth while."""

    reason: Literal["open", "half-open", "pause", "forced"]
    retry_after_s: float


@dataclass(frozen=True, slots=True)
class Transition:
    """A step from one state to another (or to the same one, under a new generation).

    ``cause``: first-use, failures, recovery, probe-ok, probe-failed, probe-lost, probe-returned,
    forced, force-ended or reset.
    """

    before: State
    after: State
    cause: str


@dataclass(frozen=True, slots=True)
class Ruling:
    """The fleet's answer to who asks for a permit, and the transitions the question made."""

    answer: Permit | Refusal
    transitions: tuple[Transition, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A transition as it is kept: ``at`` by Redis's clock, ``by`` an operator or empty.

    ``worker``: whose call made it. ``detail``: what failed, or the operator's reason.
    ``seconds``: how long a force lasts, else 0.
    """

    at: datetime
    transition: Transition
    generation: int
    worker: str
    by: str
    detail: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Force:
    """An operator holds the breaker in its state, for ``left_ms`` more."""

    left_ms: int
    by: str
    reason: str


@dataclass(frozen=True, slots=True)
class BreakerSnapshot:
    """What the next caller would meet.

    ``streak``: failures in a row. ``retry_after_ms``: 0 unless calls are refused now. ``force``:
    why it is in this state, if an operator says so. ``error``: what opened it last. ``degraded``:
    this worker's own view, without Redis.
    """

    state: State
    streak: int
    retry_after_ms: int
    generation: int
    force: Force | None = None
    error: str = ""
    degraded: bool = False

    @property
    def forced(self) -> bool:
        return self.force is not None
