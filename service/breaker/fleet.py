"""The fleet's breaker as it stands in Redis: each script as a call with words for its reply.

Everything here raises StoreUnavailable where Redis is away, and has no memory of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from service.breaker.models import (
    BreakerSnapshot,
    Event,
    Force,
    Outcome,
    Permit,
    Refusal,
    Ruling,
    Transition,
)
from service.store import keys
from service.store.client import Store

if TYPE_CHECKING:
    from service.settings import BreakerSettings

#: Days of trouble: an outage of an hour makes about 240.
EVENTS_KEPT = 1000
_LIFE_MS = keys.BREAKER_LIFE_MS


class FleetBreaker:
    """``worker`` names this process in the events it causes."""

    def __init__(self, name: str, settings: BreakerSettings, store: Store, *, worker: str) -> None:
        self._store = store
        self._worker = worker
        self._threshold = settings.failure_threshold
        self._recovery_us = _us(settings.recovery_seconds)
        self._lease_us = _us(settings.probe_lease_seconds)
        self._key = keys.breaker(name)
        self._events = keys.breaker_events(name)
        self._acquire = store.script(__package__, "acquire", keys=2)
        self._report = store.script(__package__, "report", keys=2)
        self._force = store.script(__package__, "force", keys=2)
        self._pause = store.script(__package__, "pause", keys=1)
        self._peek = store.script(__package__, "peek", keys=1)

    async def acquire(self, token: str) -> Ruling:
        """Asked again with the same token, a probe's permit is the same one."""
        admitted, word, generation, wait_ms, made = await self._acquire(
            [self._key, self._events],
            [token, self._lease_us, self._worker, _LIFE_MS, EVENTS_KEPT],
        )
        answer = (
            Permit(generation, token, _text(word))  # type: ignore[arg-type]
            if admitted
            else Refusal(_text(word), wait_ms / 1000)  # type: ignore[arg-type]
        )
        return Ruling(answer, _transitions(made))

    async def report(
        self, permit: Permit, outcome: Outcome, *, member: str, detail: str
    ) -> tuple[Transition, ...]:
        """``member``: what counts once in a row of failures. May be sent again: it counts once."""
        _, made = await self._report(
            [self._key, self._events],
            [
                permit.generation, permit.token, outcome.value, member, self._threshold,
                self._recovery_us, detail, self._worker, _LIFE_MS, EVENTS_KEPT,
            ],
        )  # fmt: skip
        return _transitions(made)

    async def pause(self, seconds: float) -> None:
        await self._pause([self._key], [_us(seconds), _LIFE_MS])

    async def command(
        self, verb: Literal["open", "closed", "reset"], seconds: float, *, by: str, reason: str
    ) -> Transition:
        made = await self._force(
            [self._key, self._events],
            [verb, _us(seconds), by, reason, self._worker, _LIFE_MS, EVENTS_KEPT],
        )
        return _transition(made)

    async def peek(self) -> BreakerSnapshot:
        found = await self._peek([self._key], [])
        state, generation, streak, wait_ms, force, left_ms, by, why, error = found
        return BreakerSnapshot(
            _text(state),  # type: ignore[arg-type]
            streak,
            wait_ms,
            generation,
            force=Force(left_ms, _text(by), _text(why)) if force else None,
            error=_text(error),
        )

    async def history(self, limit: int) -> tuple[Event, ...]:
        """The latest events, newest first."""
        entries: Any = await self._store.run(
            lambda: self._store.client.xrevrange(self._events, count=limit)
        )
        return tuple(_event(_text(entry), fields) for entry, fields in entries)


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _text(word: bytes | str) -> str:
    return word.decode() if isinstance(word, bytes) else word


def _transition(words: Sequence[bytes | str]) -> Transition:
    before, after, cause = map(_text, words)
    return Transition(before, after, cause)  # type: ignore[arg-type]


def _transitions(made: Sequence[Sequence[bytes | str]]) -> tuple[Transition, ...]:
    return tuple(map(_transition, made))


def _event(entry: str, fields: dict[Any, Any]) -> Event:
    told = {_text(name): _text(value) for name, value in fields.items()}
    return Event(
        at=datetime.fromtimestamp(int(entry.partition("-")[0]) / 1000, UTC),
        transition=_transition([told["from"], told["to"], told["cause"]]),
        generation=int(told["generation"]),
        worker=told["worker"],
        by=told.get("by", ""),
        detail=told.get("detail", ""),
        seconds=float(told.get("seconds", 0)),
    )
