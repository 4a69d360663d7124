"""The payment service over HTTP: one method is one exchange, and each failure says what is certain.

No repeating, no breaker, no bookkeeping here: ``gateway`` decides, this tells it whether a request
can have been received. That is taken from the connection's own events (made, reused), not guessed
from the type of the exception. The API key is in one header and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from pydantic import ValidationError
from yarl import URL

from service import deadline, tracing
from service.payments.documents import (
    Answer,
    AnyPayment,
    Document,
    ErrorAnswer,
    Ignored,
    KeyDocument,
    PaymentDocument,
    PaymentList,
    fault,
)
from service.payments.failures import AttemptFailed, Kind
from service.payments.models import (
    KeyStatus,
    Payment,
    PaymentOrder,
    Unreadable,
    Watermark,
    iso_utc,
)

if TYPE_CHECKING:
    from service.settings import PaymentSettings

T = TypeVar("T", bound=Document)

API_BASE = "api/v1"
#: A page of 100 payments with their longest identifiers and histories stays well below this.
ANSWER_LIMIT_BYTES = 8 * 1024 * 1024
#: Node's servers close idle connections after 5 s; leaving first avoids most stale ones.
KEEPALIVE_S = 4.0
#: aiohttp rounds time-outs above its threshold up to whole seconds; attempts must not be.
CEIL_THRESHOLD_S = 60.0
#: A service that asks for more than a day's rest means something else.
LONGEST_RETRY_AFTER_S = 86_400.0
#: What is kept of the service's own words about a failure.
DETAIL_CHARACTERS = 200

_BY_STATUS = {
    401: Kind.UNAUTHORISED,
    403: Kind.UNAUTHORISED,
    404: Kind.NOT_FOUND,
    409: Kind.CONFLICT,
    429: Kind.THROTTLED,
    500: Kind.SERVER_ERROR,
    503: Kind.OVERLOADED,
}


class PaymentClient:
    """Opened once per worker; every method may raise AttemptFailed."""

    def __init__(
        self, settings: PaymentSettings, *, trace_configs: Sequence[aiohttp.TraceConfig] = ()
    ) -> None:
        if settings.url is None:
            raise ValueError("the payment service's address is not set")
        self._settings = settings
        self._base = URL(settings.url.rstrip("/") + "/") / API_BASE
        self._trace_configs = [_connection_events(), *trace_configs]
        self._session: aiohttp.ClientSession | None = None
        self._fresh: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        limit = self._settings.bulkhead  # so that nothing ever queues for a connection
        self._session = self._new_session(
            aiohttp.TCPConnector(limit=limit, keepalive_timeout=KEEPALIVE_S)
        )
        # A create on a connection that is just being closed would have an unknown outcome, and a
        # handshake is nothing beside the seconds it takes.
        self._fresh = self._new_session(aiohttp.TCPConnector(limit=limit, force_close=True))

    async def close(self) -> None:
        for session in (self._session, self._fresh):
            if session is not None:
                await session.close()
        self._session = self._fresh = None

    async def create(self, order: PaymentOrder, *, timeout_s: float) -> Payment:
        """Ask for a payment. Not idempotent: each acceptance is another payment."""
        body: dict[str, Any] = {
            "network": self._settings.network,
            "agentIdentifier": order.agent_identifier,
            "inputHash": order.input_hash,
            "identifierFromPurchaser": order.identifier_from_purchaser,
            "payByTime": iso_utc(order.pay_by),
            "submitResultTime": iso_utc(order.submit_by),
            "metadata": order.metadata,
        }
        if order.requested_funds:
            body["RequestedFunds"] = [
                {"amount": fund.amount, "unit": fund.unit} for fund in order.requested_funds
            ]
        if order.payment_source_type is not None:
            body["paymentSourceType"] = order.payment_source_type
        if order.supported_payment_source_index is not None:
            body["supportedPaymentSourceIndex"] = order.supported_payment_source_index
        answer = await self._post(
            "payment", Answer[PaymentDocument], body, timeout_s, session=self._fresh
        )
        return answer.data.value()

    async def page(
        self, source_type: str, *, cursor_id: str | None, limit: int, timeout_s: float
    ) -> tuple[Payment | Unreadable, ...]:
        """Payments of one source type, newest first; the cursor's own row comes again."""
        query = self._query(limit, cursor_id, filterPaymentSourceType=source_type)
        answer = await self._get("payment", Answer[PaymentList], query, timeout_s)
        return answer.data.values()

    async def changes(
        self, source_type: str, *, since: Watermark, limit: int, timeout_s: float
    ) -> tuple[Payment | Unreadable, ...]:
        """Payments of one source type changed at or after ``since``, oldest change first."""
        query = self._query(
            limit,
            since.cursor_id,
            filterPaymentSourceType=source_type,
            lastUpdate=since.last_update,
        )
        answer = await self._get("payment/diff", Answer[PaymentList], query, timeout_s)
        return answer.data.values()

    async def resolve(self, blockchain_identifier: str, *, timeout_s: float) -> Payment:
        path = "payment/resolve-blockchain-identifier"
        body = self._about(blockchain_identifier)
        answer = await self._post(path, Answer[AnyPayment], body, timeout_s)
        if isinstance(answer.data, Unreadable):
            raise AttemptFailed(Kind.ODD_PAYMENT, detail=answer.data.fault)
        return _same(answer.data, blockchain_identifier)

    async def submit_result(
        self, blockchain_identifier: str, result_hash: str, *, timeout_s: float
    ) -> Payment:
        """Ask for the hash to be put on chain; NOT_FOUND also where it has been asked before."""
        body = self._about(blockchain_identifier) | {"submitResultHash": result_hash}
        answer = await self._post("payment/submit-result", Answer[PaymentDocument], body, timeout_s)
        return _same(answer.data, blockchain_identifier)

    async def authorize_refund(self, blockchain_identifier: str, *, timeout_s: float) -> None:
        body = self._about(blockchain_identifier)
        await self._post("payment/authorize-refund", Answer[Ignored], body, timeout_s)

    async def recover(self, payment: Payment, *, timeout_s: float) -> None:
        """Lift an error state; refused unless the payment is still exactly as we last saw it."""
        body = self._about(payment.blockchain_identifier) | {"updatedAt": payment.updated_at}
        await self._post("payment/error-state-recovery", Answer[Ignored], body, timeout_s)

    async def key_status(self, *, timeout_s: float) -> KeyStatus:
        answer = await self._get("api-key-status", Answer[KeyDocument], {}, timeout_s)
        return answer.data.value()

    def _new_session(self, connector: aiohttp.TCPConnector) -> aiohttp.ClientSession:
        key = self._settings.api_key
        return aiohttp.ClientSession(
            connector=connector,
            headers={"token": key.get_secret_value()} if key else None,
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=self._trace_configs,
        )

    def _about(self, blockchain_identifier: str) -> dict[str, Any]:
        return {
            "network": self._settings.network,
            "blockchainIdentifier": blockchain_identifier,
        }

    def _query(self, limit: int, cursor_id: str | None, **more: str) -> dict[str, str]:
        query = {"network": self._settings.network, "limit": str(limit), **more}
        return query if cursor_id is None else query | {"cursorId": cursor_id}

    async def _get(
        self, path: str, model: type[T], query: Mapping[str, str], timeout_s: float
    ) -> T:
        return await self._exchange(self._session, "GET", path, model, timeout_s, params=query)

    async def _post(
        self,
        path: str,
        model: type[T],
        body: Mapping[str, Any],
        timeout_s: float,
        *,
        session: aiohttp.ClientSession | None = None,
    ) -> T:
        return await self._exchange(
            session or self._session,
            "POST",
            path,
            model,
            timeout_s,
            data=json.dumps(body).encode(),
            content_type="application/json",
        )

    async def _exchange(
        self,
        session: aiohttp.ClientSession | None,
        method: str,
        path: str,
        model: type[T],
        timeout_s: float,
        *,
        content_type: str | None = None,
        **request: Any,
    ) -> T:
        if session is None:
            raise RuntimeError("the payment client is not open")
        connection = _Connection()
        headers = deadline.outbound(timeout_s) | tracing.outbound()
        if content_type is not None:
            headers["Content-Type"] = content_type
        timeout = aiohttp.ClientTimeout(
            total=timeout_s,
            connect=min(timeout_s, self._settings.connect_timeout),
            ceil_threshold=CEIL_THRESHOLD_S,
        )
        try:
            async with session.request(
                method,
                self._base / path,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
                trace_request_ctx=connection,
                **request,
            ) as response:
                connection.answered = True
                content = await _read(response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _failed(error, connection) from error
        if 200 <= response.status < 300:
            return _parsed(model, content)
        raise _refused(response, content)


@dataclass(slots=True)
class _Connection:
    """What became of one exchange's connection."""

    made: bool = False
    reused: bool = False
    answered: bool = False


def _connection_events() -> aiohttp.TraceConfig:
    async def created(
        _: aiohttp.ClientSession,
        context: SimpleNamespace,
        __: aiohttp.TraceConnectionCreateEndParams,
    ) -> None:
        connection: _Connection = context.trace_request_ctx
        # A GET may be given a second connection by aiohttp after a stale one.
        connection.made, connection.reused = True, False

    async def reused(
        _: aiohttp.ClientSession,
        context: SimpleNamespace,
        __: aiohttp.TraceConnectionReuseconnParams,
    ) -> None:
        connection: _Connection = context.trace_request_ctx
        connection.made = connection.reused = True

    events = aiohttp.TraceConfig()
    events.on_connection_create_end.append(created)
    events.on_connection_reuseconn.append(reused)
    return events


async def _read(response: aiohttp.ClientResponse) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > ANSWER_LIMIT_BYTES:
            raise AttemptFailed(Kind.UNREADABLE, status=response.status, detail="too long")
    return bytes(content)


def _same(document: PaymentDocument, blockchain_identifier: str) -> Payment:
    """The payment that was asked about: funds of another one must start no job."""
    if document.blockchain_identifier != blockchain_identifier:
        raise AttemptFailed(Kind.UNREADABLE, detail="not the payment asked about")
    return document.value()


def _parsed(model: type[T], content: bytes) -> T:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        raise AttemptFailed(Kind.UNREADABLE, detail=fault(error)) from error


def _failed(error: Exception, connection: _Connection) -> AttemptFailed:
    timed_out = isinstance(error, TimeoutError)
    if not connection.made:
        kind = Kind.NOT_SENT
    elif timed_out:
        kind = Kind.TIMED_OUT
    elif isinstance(error, aiohttp.ClientResponseError):
        kind = Kind.UNREADABLE  # an answer, but not in HTTP
    elif connection.reused and not connection.answered:
        kind = Kind.STALE
    else:
        kind = Kind.BROKEN
    return AttemptFailed(kind, detail=type(error).__name__, timed_out=timed_out)


def _refused(response: aiohttp.ClientResponse, content: bytes) -> AttemptFailed:
    status = response.status
    message = _message(content)
    if status >= 500:
        kind = _BY_STATUS.get(status, Kind.GATEWAY_ERROR)
    elif status in {401, 403, 429}:
        kind = _BY_STATUS[status]
    elif status < 400 or message is None:
        # A page of somebody else's: were it believed, a wrong address would read as "no such
        # payment" and cost jobs.
        kind = Kind.MISROUTED
    else:
        kind = _BY_STATUS.get(status, Kind.REFUSED)
    return AttemptFailed(
        kind,
        status=status,
        detail=(message or "")[:DETAIL_CHARACTERS],
        retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
    )


def _message(content: bytes) -> str | None:
    """The service's own words, or None where the body is not its error envelope."""
    try:
        return ErrorAnswer.model_validate_json(content).error.message
    except ValidationError:
        return None


def _retry_after_s(text: str | None) -> float | None:
    """Seconds or an HTTP date, as RFC 9110 has it; nonsense counts as absent."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        seconds = float(text)
    else:
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = max(0.0, (moment - datetime.now(UTC)).total_seconds())
    return seconds if seconds <= LONGEST_RETRY_AFTER_S else None
