"""What caused a job: kept with it, so that each later step of it tells of the same request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog

from service import logs
from service.tracing.spans import NOTHING, Span, Value, tracer


@dataclass(frozen=True, slots=True)
class Origin:
    """The request that started a job, and its trace if there was one; older jobs have neither."""

    request_id: str | None = None
    #: As W3C has it.
    traceparent: str | None = None


NOT_KNOWN = Origin()


def here() -> Origin:
    """The present request."""
    installed = tracer()
    return Origin(logs.REQUEST_ID.get(), installed.traceparent() if installed else None)


@contextmanager
def step(name: str, job_id: UUID, origin: Origin, **fields: int) -> Iterator[Span]:
    """One step of a job by itself: every line it logs names the job and the request behind it.

    ``fields`` are in the lines as well.
    """
    job, installed = str(job_id), tracer()
    token = logs.REQUEST_ID.set(origin.request_id)
    try:
        with structlog.contextvars.bound_contextvars(job_id=job, **fields):
            if installed is None:
                yield NOTHING
            else:
                told: dict[str, Value] = {"tollgate.job_id": job}
                told.update((f"tollgate.{name}", value) for name, value in fields.items())
                with installed.resumed(name, origin.traceparent, told) as span:
                    yield span
    finally:
        logs.REQUEST_ID.reset(token)
