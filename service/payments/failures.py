"""What one exchange with the payment service can come to, other than an answer.

The kinds are the rows of the retry table in docs/payments.md. Package-private: the gateway turns
each into an error of ``service.errors`` before it leaves.
"""

from __future__ import annotations

from enum import StrEnum

from service.errors import (
    DependencyError,
    PaymentMisconfigured,
    PaymentRejected,
    PaymentUnavailable,
)


class Kind(StrEnum):
    #: No connection: nothing can have been received.
    NOT_SENT = "not-sent"
    #: Sent, and no answer within the attempt's time.
    TIMED_OUT = "timed-out"
    #: Sent, and the connection broke.
    BROKEN = "broken"
    #: Sent on a kept-alive connection that the service was just closing.
    STALE = "stale-connection"
    #: A complete 500: the service itself has finished with the request, one way or the other.
    SERVER_ERROR = "server-error"
    #: 502, 504 and the rest of 5xx: somebody in between; the service may still be at work.
    GATEWAY_ERROR = "gateway-error"
    #: 503.
    OVERLOADED = "overloaded"
    #: 2xx with a body that cannot be what was asked for.
    UNREADABLE = "unreadable"
    #: 2xx in order, but for the one payment that was asked about.
    ODD_PAYMENT = "odd-payment"
    #: 429: refused before any work.
    THROTTLED = "throttled"
    #: 401 and 403: key, right or network; the configuration's fault, never the job's.
    UNAUTHORISED = "unauthorised"
    #: A 3xx or 4xx that is not from the payment service: the address is wrong.
    MISROUTED = "misrouted"
    #: 400, 422 and the rest of 4xx.
    REFUSED = "refused"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"


#: The service received nothing, or refused before doing anything.
NOTHING_DONE = frozenset({Kind.NOT_SENT, Kind.THROTTLED})
#: The same request would meet the same answer.
FINAL = frozenset(
    {Kind.UNAUTHORISED, Kind.MISROUTED, Kind.REFUSED, Kind.NOT_FOUND, Kind.CONFLICT},
)
#: Passing trouble; reads may be repeated after any of these.
PASSING = frozenset(Kind) - FINAL

_MISCONFIGURED = frozenset({Kind.UNAUTHORISED, Kind.MISROUTED})


class AttemptFailed(DependencyError):
    """One exchange with the payment service failed."""

    dependency = "payment"

    def __init__(
        self,
        kind: Kind,
        *,
        status: int | None = None,
        detail: str = "",
        retry_after_s: float | None = None,
        timed_out: bool = False,
    ) -> None:
        super().__init__(retry_after_s=retry_after_s)
        self.kind = kind
        self.status = status
        #: The service's own words or the transport's; for logs only.
        self.detail = detail
        #: Our time ran out (rather than: the other side did something).
        self.timed_out = timed_out

    @property
    def settled(self) -> bool:
        """Whether the service is done with the request, so that a look at its list decides."""
        if self.kind is Kind.OVERLOADED:
            # Whoever names a time to come back has chosen to refuse; a bare 503 may be a proxy
            # that lost the connection to a service still at work.
            return self.retry_after_s is not None
        return self.kind is Kind.SERVER_ERROR

    def translated(self) -> DependencyError:
        """As the rest of the service knows it, where it is certain that nothing was done."""
        if self.kind in _MISCONFIGURED:
            return PaymentMisconfigured()
        if self.kind in FINAL:
            return PaymentRejected()
        return PaymentUnavailable(retry_after_s=self.retry_after_s)
