"""At most so many payment calls of this worker at once; one more is refused, never queued.

A breaker acts only on finished calls: against a service that hangs, this is what keeps the worker's
connections and memory from filling up meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import PaymentBusy

#: Slots come free within one exchange, which is seconds.
RETRY_AFTER_S = 1.0


class Bulkhead:
    """A counter, not a queue: everything runs on one event loop, so no lock is needed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0

    def __repr__(self) -> str:
        return f"<Bulkhead {self.in_use}/{self.limit}>"

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold one slot; raises PaymentBusy at once when there is none."""
        if self.in_use >= self.limit:
            raise PaymentBusy(retry_after_s=RETRY_AFTER_S)
        self.in_use += 1
        try:
            yield
        finally:
            self.in_use -= 1
