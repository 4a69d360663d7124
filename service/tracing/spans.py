"""What the rest of the service sees of tracing: spans that are nothing while it is off."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from service import logs

if TYPE_CHECKING:
    from multidict import MultiMapping

#: What an attribute may be; never a client's input, never a key.
Value = str | int | float | bool
NO_ATTRIBUTES: Mapping[str, Value] = MappingProxyType({})


class Kind(StrEnum):
    """Which side of an exchange a span shows."""

    SERVER = "server"
    CLIENT = "client"
    INTERNAL = "internal"


class Span(Protocol):
    """Ended by leaving it; an expected failure that leaves it is its code, never its text."""

    def tell(self, attributes: Mapping[str, Value | None]) -> None:
        """Add what has been found out; None is left out."""

    def fail(self, code: str) -> None:
        """What was asked for was not done."""


class Tracer(Protocol):
    """What is installed while tracing is on (``service.tracing.telemetry``)."""

    def span(
        self, name: str, kind: Kind, attributes: Mapping[str, Value]
    ) -> AbstractContextManager[Span]: ...

    def request(
        self, name: str, headers: MultiMapping[str], attributes: Mapping[str, Value]
    ) -> AbstractContextManager[Span]:
        """The span of a request, a child of the caller's if it names one."""

    def resumed(
        self, name: str, traceparent: str | None, attributes: Mapping[str, Value]
    ) -> AbstractContextManager[Span]:
        """A span that goes on with a trace begun elsewhere; without one, with a new trace."""

    def past(self, name: str, seconds: float, attributes: Mapping[str, Value], failed: str) -> None:
        """A span of something that has just ended after so long; ``failed``: its code, or empty."""

    def traceparent(self) -> str | None:
        """The present span, as W3C has it."""

    def fields(self) -> dict[str, str]:
        """The header fields by which a called service goes on with this trace."""


class _Nothing:
    """A span while tracing is off."""

    __slots__ = ()

    def tell(self, attributes: Mapping[str, Value | None]) -> None: ...

    def fail(self, code: str) -> None: ...

    def __enter__(self) -> Span:
        return self

    def __exit__(self, *_: object) -> None: ...


NOTHING = _Nothing()


class _Installed:
    tracer: Tracer | None = None


def install(tracer: Tracer) -> None:
    """From now on, in this process."""
    _Installed.tracer = tracer


def uninstall(tracer: Tracer) -> None:
    """No more, unless another one has been installed since."""
    if _Installed.tracer is tracer:
        _Installed.tracer = None


def tracer() -> Tracer | None:
    return _Installed.tracer


def span(
    name: str, kind: Kind = Kind.INTERNAL, attributes: Mapping[str, Value] = NO_ATTRIBUTES
) -> AbstractContextManager[Span]:
    """A span round what is done inside, part of the present one; nothing where there is none."""
    installed = _Installed.tracer
    if installed is None:
        return NOTHING
    return installed.span(name, kind, attributes)


def outbound() -> dict[str, str]:
    """The header fields that tell a called service which request and which trace this is for."""
    request_id, installed = logs.REQUEST_ID.get(), _Installed.tracer
    told = {} if request_id is None else {"X-Request-Id": request_id}
    return told if installed is None else told | installed.fields()
