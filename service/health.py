"""What works and what does not, found out in the background so that asking costs nothing.

Every component has its own loop with its own time-out: a dependency that hangs holds up neither
the others nor a reader. ``snapshot()`` only reads memory. A component that has not been heard of
for three periods counts as degraded, whatever it said last.

``Mode`` is the closed set of the ways in which the service makes do with what is missing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

import structlog

from service.errors import DependencyError

#: Polls of many workers spread over this share of the period, or they would beat in step.
JITTER = 0.1
#: Missing this many polls means that the poller itself is in trouble.
STALE_PERIODS = 3

log = structlog.get_logger()


class Mode(StrEnum):
    """Every degraded mode there is; docs/api.md tells what each means for clients."""

    REDIS_AWAY = "redis_away"
    REDIS_REFUSING = "redis_refusing"
    LIMITS_LOCAL = "limits_local"
    POSTGRES_AWAY = "postgres_away"
    POSTGRES_BUSY = "postgres_busy"
    POSTGRES_READ_ONLY = "postgres_read_only"
    CHANGES_UNHEARD = "changes_unheard"
    PAYMENT_OPEN = "payment_open"
    PAYMENT_KEY_UNUSABLE = "payment_key_unusable"
    OVERLOADED = "overloaded"
    #: Not a part but the asking failed: nothing has been heard of it for too long, or the check of
    #: a part that cannot be away is broken.
    UNCHECKED = "unchecked"


@dataclass(frozen=True, slots=True)
class ComponentState:
    """What one check found; ``latency_ms`` is measured by Health where the check leaves it out."""

    state: Literal["ok", "degraded", "down"]
    latency_ms: float | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    #: How the service makes do meanwhile; left out, it is that of the part's being away.
    mode: Mode | None = None


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """All components as last seen; ``taken_at`` is the time of the oldest finding in it."""

    status: Literal["ok", "degraded"]
    components: Mapping[str, ComponentState]
    taken_at: datetime

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The degraded modes the service is in, sorted."""
        return tuple(sorted({c.mode for c in self.components.values() if c.mode}))


Check = Callable[[], Awaitable[ComponentState]]


class Health:
    """Registered checks, each polled every ``period_s`` and given up after ``timeout_s``."""

    def __init__(self, *, period_s: float = 2.0, timeout_s: float = 1.0) -> None:
        self._period_s = period_s
        self._timeout_s = timeout_s
        self._components: dict[str, _Component] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def __repr__(self) -> str:
        states = ", ".join(f"{c.name} {c.finding.state}" for c in self._components.values())
        return f"<Health {states or 'of nothing'}>"

    def register(
        self, name: str, check: Check, *, critical: bool, away: Mode = Mode.UNCHECKED
    ) -> None:
        """Watch one more component; ``critical`` makes its loss an error in the log.

        ``away`` is the mode while its check fails and names no other.
        """
        if name in self._components:
            raise ValueError(f"{name} is registered already")
        if self._tasks:
            raise RuntimeError("register before start")
        self._components[name] = _Component(name, check, critical, away)

    async def start(self) -> None:
        """Poll in the background; returns when all have been asked once, or their time is up."""
        self._tasks = [
            asyncio.create_task(self._poll(component), name=f"health {component.name}")
            for component in self._components.values()
        ]
        if self._tasks:
            asked = [asyncio.create_task(c.asked.wait()) for c in self._components.values()]
            _, waiting = await asyncio.wait(asked, timeout=self._timeout_s * 2)
            for task in waiting:
                task.cancel()

    async def stop(self) -> None:
        """End the polling; the last findings stay readable and grow stale."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            # A check that ignores its cancellation must not hold up the shutdown.
            await asyncio.wait(tasks, timeout=self._timeout_s)

    def snapshot(self) -> HealthSnapshot:
        """The state of everything, from memory."""
        now_s = time.monotonic()
        stale_s = self._period_s * STALE_PERIODS
        components = {c.name: c.seen_at(now_s, stale_s) for c in self._components.values()}
        oldest = min((c.taken_at for c in self._components.values()), default=datetime.now(UTC))
        well = all(component.state == "ok" for component in components.values())
        return HealthSnapshot("ok" if well else "degraded", MappingProxyType(components), oldest)

    async def _poll(self, component: _Component) -> None:
        while True:
            component.take(await self._ask(component))
            spread = 1 + JITTER * random.uniform(-1, 1)  # noqa: S311  (no secret, only spread)
            await asyncio.sleep(self._period_s * spread)

    async def _ask(self, component: _Component) -> ComponentState:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await component.check()
        except TimeoutError:
            found = ComponentState("down", detail={"error": "check-timed-out"})
        except DependencyError as error:
            found = ComponentState("down", detail={"error": error.code})
        except Exception as error:  # a broken check must show, and must not end the polling
            log.exception("health_check_broken", component=component.name)
            found = ComponentState("down", detail={"error": type(error).__name__})
        if found.latency_ms is None:
            found = replace(found, latency_ms=round((time.monotonic() - began_s) * 1000, 3))
        return found


class _Component:
    def __init__(self, name: str, check: Check, critical: bool, away: Mode) -> None:
        self.name = name
        self.check = check
        self.critical = critical
        self.away = away
        self.asked = asyncio.Event()
        self.taken_at = datetime.now(UTC)
        self.finding = ComponentState(
            "degraded", detail={"error": "not-asked-yet"}, mode=Mode.UNCHECKED
        )
        self._found_s = time.monotonic()

    def take(self, found: ComponentState) -> None:
        known = self.finding.state if self.asked.is_set() else "ok"
        self.finding = self._named(found)
        self.taken_at = datetime.now(UTC)
        self._found_s = time.monotonic()
        self.asked.set()
        if found.state != known:
            self._tell()

    def seen_at(self, now_s: float, stale_s: float) -> ComponentState:
        age_s = now_s - self._found_s
        if age_s <= stale_s:
            return self.finding
        detail = {**self.finding.detail, "stale_s": round(age_s, 1)}
        if self.finding.state == "ok":
            return ComponentState("degraded", self.finding.latency_ms, detail, Mode.UNCHECKED)
        return replace(self.finding, detail=detail)

    def _named(self, found: ComponentState) -> ComponentState:
        if found.state == "ok" or found.mode:
            return found
        return replace(found, mode=self.away)

    def _tell(self) -> None:
        well, found = self.finding.state == "ok", self.finding
        tell = log.info if well else log.error if self.critical else log.warning
        tell("component_changed", component=self.name, state=found.state, detail=dict(found.detail))
