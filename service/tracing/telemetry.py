"""Tracing with the OpenTelemetry SDK; imported only where it is switched on.

Spans are queued and sent by a thread: the loop never waits for a collector, and one that is away
costs spans, not requests. What goes into a span is a name, a closed set of attributes and the code
of a failure: no texts of exceptions, no statements' parameters, no addresses.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Self

import structlog
from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import service
from service import logs
from service.errors import TollgateError
from service.tracing.spans import NOTHING, Kind, Span, Value, install, uninstall

if TYPE_CHECKING:
    from multidict import MultiMapping

    from service.settings import TracingSettings

#: Spans waiting for the exporter; more are dropped.
QUEUE = 4096
#: Sent together, and at the latest after so long.
BATCH = 512
PERIOD_MS = 1000
#: One attempt to deliver, retries of the exporter included.
DELIVERY_S = 5.0
#: At the end, for what is still queued.
CLOSE_S = 2.0

_KINDS = {
    Kind.SERVER: SpanKind.SERVER,
    Kind.CLIENT: SpanKind.CLIENT,
    Kind.INTERNAL: SpanKind.INTERNAL,
}

log = structlog.get_logger()


class Telemetry:
    """Installed while it is entered; made in the worker that uses it, not before a fork."""

    def __init__(self, settings: TracingSettings, *, instance: str) -> None:
        # The library's own words, a line for each failure and each retry, are not ours.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        resource = Resource.create(
            {
                "service.name": settings.service_name,
                "service.version": service.__version__,
                "service.instance.id": instance,
            }
        )
        self._provider = TracerProvider(
            sampler=_sampler(settings), resource=resource, shutdown_on_exit=False
        )
        exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=DELIVERY_S)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                _Told(exporter, settings.endpoint),
                max_queue_size=QUEUE,
                max_export_batch_size=BATCH,
                schedule_delay_millis=PERIOD_MS,
                export_timeout_millis=DELIVERY_S * 1000,
            )
        )
        self._tracer = self._provider.get_tracer("tollgate", service.__version__)
        self._propagator = TraceContextTextMapPropagator()

    async def __aenter__(self) -> Self:
        install(self)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        """Deliver what is queued, if that is quick."""
        uninstall(self)
        done, loop = asyncio.Event(), asyncio.get_running_loop()

        def shut() -> None:
            self._provider.shutdown()
            try:
                loop.call_soon_threadsafe(done.set)
            except RuntimeError:
                return  # the loop has not waited for us

        threading.Thread(target=shut, name="traces-last", daemon=True).start()
        try:
            async with asyncio.timeout(CLOSE_S):
                await done.wait()
        except TimeoutError:
            log.info("traces_left_behind")

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value]
    ) -> AbstractContextManager[Span]:
        if not trace.get_current_span().is_recording():
            return NOTHING  # not sampled, or for nobody: neither a request nor a job
        span = self._tracer.start_span(name, kind=_KINDS[kind], attributes=attributes)
        return _Open(span, context.get_current())

    def request(
        self, name: str, headers: MultiMapping[str], attributes: Mapping[str, Value]
    ) -> _Open:
        caller = self._propagator.extract(headers, context.Context(), _ONE_FIELD)
        span = self._tracer.start_span(name, caller, SpanKind.SERVER, attributes)
        return _Open(span, caller, told=True)

    def resumed(self, name: str, traceparent: str | None, attributes: Mapping[str, Value]) -> _Open:
        carrier = {} if traceparent is None else {"traceparent": traceparent}
        before = self._propagator.extract(carrier, context.Context())
        span = self._tracer.start_span(name, before, attributes=attributes)
        return _Open(span, before, told=True)

    def past(self, name: str, seconds: float, attributes: Mapping[str, Value], failed: str) -> None:
        if not trace.get_current_span().is_recording():
            return
        ended_ns = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=SpanKind.CLIENT,
            attributes=attributes,
            start_time=ended_ns - int(seconds * 1e9),
        )
        if failed:
            span.set_status(StatusCode.ERROR, failed)
        span.end(ended_ns)

    def traceparent(self) -> str | None:
        return self.fields().get("traceparent")

    def fields(self) -> dict[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier


class _Open:
    """A span that is the present one until it is left."""

    __slots__ = ("_context", "_failed", "_log_token", "_span", "_token", "_told")

    def __init__(self, span: trace.Span, parent: context.Context, *, told: bool = False) -> None:
        self._span = span
        self._context = trace.set_span_in_context(span, parent)
        self._told = told
        self._failed = False
        self._token: Token[context.Context] | None = None
        self._log_token: Token[str | None] | None = None

    def tell(self, attributes: Mapping[str, Value | None]) -> None:
        if self._span.is_recording():
            for name, value in attributes.items():
                if value is not None:
                    self._span.set_attribute(name, value)

    def fail(self, code: str) -> None:
        """The first word counts: it was said where the failure was known best."""
        if self._failed:
            return
        self._failed = True
        self._span.set_status(StatusCode.ERROR, code)

    def __enter__(self) -> _Open:
        self._token = context.attach(self._context)
        if self._told:
            trace_id = self._span.get_span_context().trace_id
            self._log_token = logs.TRACE_ID.set(f"{trace_id:032x}")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_: TracebackType | None,
    ) -> None:
        if isinstance(error, TollgateError):
            self.fail(error.code)
        elif isinstance(error, asyncio.CancelledError):
            self.tell({"tollgate.cancelled": True})
        elif kind is not None:
            self.fail(kind.__name__)
        self._span.end()
        if self._log_token is not None:
            logs.TRACE_ID.reset(self._log_token)
        if self._token is not None:
            context.detach(self._token)


class _OneField(Getter["MultiMapping[str]"]):
    """A field's lines as one: tracestate's add up; two of traceparent are not a valid one."""

    def get(self, carrier: MultiMapping[str], key: str) -> list[str] | None:
        lines = carrier.getall(key, [])
        return [",".join(lines)] if lines else None

    def keys(self, carrier: MultiMapping[str]) -> list[str]:
        return list(carrier.keys())


_ONE_FIELD = _OneField()


class _Told(SpanExporter):
    """Delivers, and says once that it cannot and once that it can again."""

    def __init__(self, exporter: SpanExporter, endpoint: str) -> None:
        self._exporter = exporter
        self._endpoint = endpoint
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            if self._lost:
                log.info("traces_delivered_again", endpoint=self._endpoint, lost=self._lost)
                self._lost = 0
            return result
        if not self._lost:
            log.warning("traces_not_delivered", endpoint=self._endpoint)
        self._lost += len(spans)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def _sampler(settings: TracingSettings) -> Sampler:
    """The caller's decision counts, unless we are told to make our own for callers' traces too."""
    ours = TraceIdRatioBased(settings.sample_ratio)
    if settings.follow_callers:
        return ParentBased(ours)
    return ParentBased(ours, remote_parent_sampled=ours)
