"""Whose turn it is among jobs that are due, so that one that always fails holds up no other."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar
from uuid import UUID

from service.errors import CircuitOpen, PaymentBusy, TollgateError

#: More are not remembered: the one that failed longest ago is forgotten.
MOST = 1000


class OfAJob(Protocol):
    @property
    def job_id(self) -> UUID: ...


T = TypeVar("T", bound=OfAJob)


class Turns:
    """Who failed last comes last; remembered by this worker only."""

    def __init__(self) -> None:
        #: When each failed last (monotonic), in that order.
        self._failed_s: dict[UUID, float] = {}

    def order(self, due: Iterable[T]) -> list[T]:
        """As they come, but those that have failed behind the others, the latest last."""
        return sorted(due, key=lambda each: self._failed_s.get(each.job_id, 0.0))

    def failed(self, job_id: UUID) -> bool:
        """Did its last turn fail?"""
        return job_id in self._failed_s

    @contextmanager
    def taken(self, job_id: UUID) -> Iterator[None]:
        """Round what is done for this job."""
        try:
            yield
        except (CircuitOpen, PaymentBusy):
            raise  # it was not asked at all
        except TollgateError:
            self._failed_s.pop(job_id, None)
            self._failed_s[job_id] = time.monotonic()
            if len(self._failed_s) > MOST:
                del self._failed_s[next(iter(self._failed_s))]
            raise
        self._failed_s.pop(job_id, None)
