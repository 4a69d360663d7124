"""Traces of requests and jobs, told to an OpenTelemetry collector; off unless it is switched on.

Off, nothing of OpenTelemetry is imported, and the way of a request has no step for it: what would
trace it is put in by ``service.app`` and ``service.wiring`` only where it is on. Where something
slow is waited for (a payment call, a run, a settlement), ``span`` stands in the code and costs a
tenth of a microsecond.
"""

from service.tracing.origin import NOT_KNOWN, Origin, here, step
from service.tracing.spans import Kind, Span, Tracer, install, outbound, span, tracer, uninstall

__all__ = [
    "NOT_KNOWN",
    "Kind",
    "Origin",
    "Span",
    "Tracer",
    "here",
    "install",
    "outbound",
    "span",
    "step",
    "tracer",
    "uninstall",
]
