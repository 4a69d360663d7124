"""Every failure Tollgate itself raises, in one tree.

Each class is one sentence for people (its docstring is the default message) and one ``code`` for
machines. Adapters translate foreign errors into these, with the cause kept; only
``service.api.problems`` knows which HTTP status each one becomes.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one input field: a JSON pointer (RFC 6901) into the body, and what to do."""

    pointer: str
    detail: str


class TollgateError(Exception):
    """Something in Tollgate failed."""

    code = "internal-error"

    def __init__(self, message: str | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").splitlines()[0]
        super().__init__(self.message)


# --- what the caller sent ---------------------------------------------------------------------


class InvalidInput(TollgateError):
    """The request is not valid; every fault is listed."""

    code = "invalid-input"

    def __init__(self, errors: tuple[FieldError, ...] = (), message: str | None = None) -> None:
        super().__init__(message)
        self.errors = errors


class MalformedBody(TollgateError):
    """The body is not the JSON object this route takes."""

    code = "malformed-body"


class UnsupportedMediaType(TollgateError):
    """The body must be sent as application/json."""

    code = "unsupported-media-type"


class UnsupportedCoding(TollgateError):
    """The body's Content-Encoding is not one this service reads."""

    code = "unsupported-coding"


class BodyTooLarge(TollgateError):
    """The body is larger than this service accepts."""

    code = "body-too-large"


class BodyTooSlow(TollgateError):
    """The body did not come in time."""

    code = "body-too-slow"


class UnknownFlow(TollgateError):
    """There is no such flow."""

    code = "unknown-flow"


class UnknownJob(TollgateError):
    """There is no such job."""

    code = "unknown-job"


class NotAwaitingInput(TollgateError):
    """The job does not wait for this input (any more)."""

    code = "not-awaiting-input"


class RequestInProgress(TollgateError):
    """A request with this idempotency key is still being worked on; ask again shortly."""

    code = "request-in-progress"

    def __init__(self, message: str | None = None, retry_after_s: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ClientDenied(TollgateError):
    """This client is not served."""

    code = "client-denied"


class CostAboveBurst(TollgateError, ValueError):
    """The request costs more than its limit ever holds; waiting will not help."""

    code = "cost-above-burst"


class IdempotencyMismatch(TollgateError):
    """This idempotency key was used before with another request."""

    code = "idempotency-key-reused"


# --- what we depend on ------------------------------------------------------------------------


class DependencyError(TollgateError):
    """Something this service depends on failed."""

    code = "dependency-failed"
    dependency = "unknown"
    #: May the same request be sent again and succeed?
    retryable = True

    def __init__(self, message: str | None = None, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnavailable(DependencyError):
    """Redis cannot be reached or did not answer in time."""

    code = "redis-unavailable"
    dependency = "redis"


class DatabaseUnavailable(DependencyError):
    """PostgreSQL cannot be reached."""

    code = "database-unavailable"
    dependency = "postgres"


class DatabaseBusy(DatabaseUnavailable):
    """Every database connection of this worker is in use."""

    code = "database-busy"


class DatabaseReadOnly(DatabaseUnavailable):
    """PostgreSQL accepts no writes at the moment."""

    code = "database-read-only"


class QueryTimeout(DependencyError):
    """A database query took longer than it may."""

    code = "query-timeout"
    dependency = "postgres"


class ConstraintViolated(TollgateError):
    """The database refuses a row that breaks one of its rules."""

    def __init__(self, constraint: str | None = None) -> None:
        super().__init__(f"The database refuses a row that breaks the rule {constraint}.")
        self.constraint = constraint


class StatementFailed(TollgateError):
    """A database statement is wrong, which is a fault of this program."""


class MigrationFailed(TollgateError):
    """The database schema could not be brought up to date."""

    code = "migration-failed"


class PaymentUnavailable(DependencyError):
    """The payment service cannot be reached or refuses work at the moment; nothing was charged."""

    code = "payment-unavailable"
    dependency = "payment"


class CircuitOpen(PaymentUnavailable):
    """The payment service failed repeatedly and is given time to recover; nothing was charged."""

    code = "payment-circuit-open"


class PaymentBusy(PaymentUnavailable):
    """This worker has as many payment calls in flight as it may; nothing was charged."""

    code = "payment-busy"


class PaymentOutcomeUnknown(DependencyError):
    """The payment service did not say whether it took the request; it is being found out."""

    code = "payment-outcome-unknown"
    dependency = "payment"


class PaymentRejected(DependencyError):
    """The payment service refused the request for good."""

    code = "payment-rejected"
    dependency = "payment"
    retryable = False


class PaymentMisconfigured(PaymentRejected):
    """The payment service does not accept this service's credentials or network."""

    code = "payment-misconfigured"


class FlowUnavailable(DependencyError):
    """The flow is stored in a form this service cannot read; its operator has been told."""

    code = "flow-unavailable"
    dependency = "catalog"

    def __init__(self, message: str | None = None, *, retry_after_s: float = 30.0) -> None:
        super().__init__(message, retry_after_s=retry_after_s)


class RunnerUnavailable(DependencyError):
    """The flow's runner cannot be reached or did not answer in time."""

    code = "runner-unavailable"
    dependency = "runner"


class DeadlineExceeded(TollgateError):
    """The request could not be finished within its time."""

    code = "deadline-exceeded"


class Overloaded(TollgateError):
    """This service has more to do than it can; nothing was started."""

    code = "overloaded"

    def __init__(self, message: str | None = None, retry_after_s: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Draining(TollgateError):
    """This worker is shutting down; another one will take the request."""

    code = "draining"


class ConfigurationError(TollgateError):
    """The settings are not usable."""

    code = "configuration-error"


class CannotListen(TollgateError):
    """An address to listen on is in use, or is none of this machine's."""

    code = "cannot-listen"
