"""What only a service that traces needs to have installed."""

from __future__ import annotations

from importlib.util import find_spec

FAULT = "tracing.enabled needs the packages of config/requirements/tracing.lock"
_NEEDED = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def installed() -> bool:
    """Looked for, not imported: the workers' master must not hold what each of them is to make."""
    try:
        return all(find_spec(name) for name in _NEEDED)
    except ImportError:  # not even what they stand in
        return False
