"""The rulebook in force in this worker: from its own files, or published for the whole fleet.

Guarantee: while Redis answers, what is published holds in every worker within a second, whole or
not at all. A document that a worker cannot use, and a Redis that is away, leave what holds.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol

import structlog

from service.admission.policies import rulebook_from
from service.admission.published import Published, PublishedLimits
from service.admission.rulebook import Rulebook
from service.errors import ConfigurationError, DeadlineExceeded, StoreUnavailable
from service.settings import limits_from
from service.tasks import end

if TYPE_CHECKING:
    from pydantic import SecretStr

    from service.settings import LimitSettings

log = structlog.get_logger()

#: Twice within the second that is promised, spread so that a fleet does not ask in step.
LOOK_INTERVAL_S = (0.3, 0.5)


class RulesObserver(Protocol):
    """Told of every change; must return at once."""

    def rules_changed(self) -> None: ...

    def rules_refused(self) -> None: ...


class Rules:
    """``current`` is replaced as a whole: who holds a rulebook keeps a consistent one.

    Raises ConfigurationError if this worker's own limits are wrong.
    """

    def __init__(
        self,
        own: LimitSettings,
        published: PublishedLimits,
        *,
        key_secret: SecretStr | None = None,
        observer: RulesObserver | None = None,
    ) -> None:
        self._own = rulebook_from(own, key_secret=key_secret)
        self._current = self._own
        self._published = published
        self._key_secret = key_secret
        self._observer = observer
        self._held: Published | None = None
        self._refused = 0
        self._watching: asyncio.Task[None] | None = None

    @property
    def current(self) -> Rulebook:
        """What holds now."""
        return self._current

    async def start(self) -> None:
        """Take what is published, if Redis can say so now, and go on watching."""
        await self._look()
        self._watching = asyncio.create_task(self._watch(), name="rules-watch")

    async def stop(self) -> None:
        """Watch no longer; what holds now goes on holding."""
        if self._watching is None:
            return
        await end(self._watching)
        self._watching = None

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(random.uniform(*LOOK_INTERVAL_S))  # noqa: S311 - no secret
            await self._look()

    async def _look(self) -> None:
        try:
            version = await self._published.version()
            held = self._held.version if self._held else 0
            if version > held and version != self._refused:
                found = await self._published.read()
                if found is not None:
                    self._take(found)
            elif self._held is not None and version < held:
                # Redis came back without it: the worker that joins next must find it again.
                await self._published.restore(self._held)
                log.warning("rules_restored", version=held)
        except (StoreUnavailable, DeadlineExceeded):
            return  # the store has said so
        except Exception:
            # Whatever it was, a worker that stopped watching would keep old limits for ever.
            log.exception("rules_watch_failed")

    def _take(self, found: Published) -> None:
        try:
            self._current = self._rulebook(found)
        except ConfigurationError as error:
            self._refused = found.version
            faults = error.message.splitlines()
            log.error("rules_refused", version=found.version, author=found.author, faults=faults)
            if self._observer is not None:
                self._observer.rules_refused()
            return
        self._held = found
        log.info("rules_changed", rules=self._current.version, author=found.author)
        if self._observer is not None:
            self._observer.rules_changed()

    def _rulebook(self, found: Published) -> Rulebook:
        if not found.document:
            return self._own
        return rulebook_from(
            limits_from(found.document),
            key_secret=self._key_secret,
            source=f"published-{found.version}",
        )

    def __repr__(self) -> str:
        return f"<Rules {self._current.version}>"
