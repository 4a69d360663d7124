"""Keeps a Redis that is away from costing every request a time-out.

After a few failures in a row calls are refused at once; once a second one call is let through to
look. Only failures of the store itself count: a caller that gave up says nothing about Redis.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import StoreUnavailable

#: One lost reply is an accident; three in a row, with no success between, are an outage.
FAILURES_BEFORE_REST = 3
#: Short enough to be back soon after Redis is, long enough to cost nothing meanwhile.
REST_S = 1.0


class Guard:
    """``with guard.attempt(): ...`` raises StoreUnavailable at once while the store rests."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures = 0
        self._rest_until_s = 0.0
        self._looking = False

    @property
    def resting(self) -> bool:
        """Would an ordinary call be refused now?"""
        return self._failures >= FAILURES_BEFORE_REST and (
            self._looking or self._clock() < self._rest_until_s
        )

    @contextmanager
    def attempt(self, *, always: bool = False) -> Iterator[None]:
        """Judge one call; ``always`` lets it through a rest as well (health checks)."""
        if self.resting and not always:
            raise StoreUnavailable(retry_after_s=REST_S)
        looks = not always and self._failures >= FAILURES_BEFORE_REST
        self._looking = self._looking or looks
        try:
            yield
        except StoreUnavailable:
            self._failures += 1
            # Spread, so that the workers of a fleet do not all look at the same instant.
            self._rest_until_s = self._clock() + REST_S * random.uniform(0.8, 1.2)  # noqa: S311
            raise
        else:
            self._failures = 0
        finally:
            if looks:
                self._looking = False

    def clear(self) -> None:
        """The store has answered somebody else."""
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Guard {'resting' if self.resting else 'watching'} failures={self._failures}>"
