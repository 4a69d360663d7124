"""A runner behind HTTP, by the contract of docs/runners.md.

A run is named by its job id: starting it twice is starting it once. So whatever goes wrong here,
trying again later is safe, and only what cannot pass (a refusal, a breach of the contract, the end
of time) is a Failed.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import aiohttp
import structlog
from yarl import URL

from service import deadline, tracing
from service.errors import RunnerUnavailable
from service.metrics.outbound import OutboundCounts
from service.runners.answers import BODY_LIMIT_BYTES, BREACH, Running, breach, read_answer
from service.runners.models import Failed, NeedsInput, RunnerSpec, RunOutcome, RunRequest

log = structlog.get_logger()

#: A runner that loses a run is told to start again, but one that always does is broken.
_MAX_STARTS = 4
#: Passing trouble while a run is under way is waited out here this often in a row.
_MAX_POLL_TROUBLES = 5
#: Longer requested pauses are taken, but not all at once: the deadline decides.
_MAX_PAUSE_S = 60.0
_CONNECT_TIMEOUT_S = 5.0

#: The runner looked at the request and refuses it; again would be the same.
_REFUSALS = frozenset({400, 413, 415, 422})


class HttpRunner:
    """Starts a run, asks for it until there is an outcome. One per flow, no state of its own."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        spec: RunnerSpec,
        *,
        token: str | None,
        counts: OutboundCounts,
    ) -> None:
        self._session = session
        self._counts = counts
        self._spec = spec
        self._url = URL(spec.target)
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def __repr__(self) -> str:
        return f"<HttpRunner {self._url}>"

    async def run(self, request: RunRequest) -> RunOutcome:
        left_s = (request.deadline - datetime.now(UTC)).total_seconds()
        limit_s = max(0.0, min(left_s, self._spec.timeout_s))
        try:
            async with asyncio.timeout(limit_s):
                with deadline.within(limit_s):
                    return await self._run(request)
        except TimeoutError:
            return Failed("run-too-late", "The flow did not finish in its time.", False)

    async def _run(self, request: RunRequest) -> RunOutcome:
        for _ in range(_MAX_STARTS):
            answer: RunOutcome | Running | None = await self._start(request)
            while answer is not None:
                if not isinstance(answer, Running):
                    return answer
                await asyncio.sleep(answer.wait_s(self._spec.poll_s))
                answer = await self._poll(request)
            log.warning("run_forgotten_by_runner", job_id=str(request.job_id))
        raise RunnerUnavailable("The runner forgets its runs.")

    async def _start(self, request: RunRequest) -> RunOutcome | Running:
        key = _idempotency_key(request)
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        content = json.dumps(_document(request, key), ensure_ascii=False).encode()
        async with self._exchange("POST", self._url, headers, content) as response:
            if response.status in _REFUSALS:
                return Failed("runner-refused", await _refusal(response), False)
            _check(response)
            return await _read(response, request)

    async def _poll(self, request: RunRequest) -> RunOutcome | Running | None:
        """The run's present answer; None where the runner knows no such run."""
        url = self._url / str(request.job_id)
        trouble: RunnerUnavailable | None = None
        for attempt in range(_MAX_POLL_TROUBLES):
            try:
                async with self._exchange("GET", url, {}, None) as response:
                    if response.status == 404:
                        return None
                    _check(response)
                    return await _read(response, request)
            except RunnerUnavailable as error:
                trouble = error
                pause_s = error.retry_after_s or self._spec.poll_s * 2**attempt
                await asyncio.sleep(min(pause_s, _MAX_PAUSE_S))
        raise trouble or RunnerUnavailable

    @asynccontextmanager
    async def _exchange(
        self, method: str, url: URL, headers: Mapping[str, str], content: bytes | None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        limit = aiohttp.ClientTimeout(
            total=self._spec.request_timeout_s, sock_connect=_CONNECT_TIMEOUT_S
        )
        with (
            tracing.span("runner request", tracing.Kind.CLIENT, {"http.request.method": method}),
            self._counts.runner_request("start" if method == "POST" else "poll") as outcome,
        ):
            try:
                async with self._session.request(
                    method,
                    url,
                    headers={
                        **self._headers,
                        **headers,
                        **deadline.outbound(self._spec.request_timeout_s),
                        **tracing.outbound(),
                        "Accept": "application/json",
                    },
                    data=content,
                    timeout=limit,
                    allow_redirects=False,
                ) as response:
                    outcome.answered(response.status)
                    yield response
            except TimeoutError as error:
                # aiohttp's own time-outs only: ours round the whole run cancels instead of raising.
                outcome.name = "timeout"
                raise RunnerUnavailable("The runner did not answer in time.") from error
            except (aiohttp.ClientError, OSError) as error:
                outcome.name = "unreachable"
                log.info("runner_unreachable", kind=type(error).__name__)
                raise RunnerUnavailable("The runner cannot be reached.") from error


def _idempotency_key(request: RunRequest) -> str:
    """One key for the start and one after each answer: they are different requests."""
    count = len(request.answers)
    return f"{request.job_id}:{count}" if count else str(request.job_id)


def _document(request: RunRequest, key: str) -> dict[str, Any]:
    return {
        "job_id": str(request.job_id),
        "idempotency_key": key,
        "flow": request.flow.slug,
        "variant": request.variant,
        "input": request.inputs,
        "answers": [{"request_id": a.request_id, "input": a.inputs} for a in request.answers],
        "deadline": _instant(request.deadline),
    }


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _check(response: aiohttp.ClientResponse) -> None:
    """Anything but an answer is trouble that may pass, or that an operator can mend."""
    if response.status in (200, 201, 202):
        return
    # A redirect, a bad token, a wrong path: nothing the purchaser did, so the job waits.
    level = log.error if response.status < 500 and response.status != 429 else log.info
    level("runner_answered_badly", status=response.status)
    raise RunnerUnavailable(
        f"The runner answered {response.status}.", retry_after_s=_retry_after_s(response)
    )


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """Seconds only; the other form (a date) is not worth trusting two clocks for."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None


async def _read(response: aiohttp.ClientResponse, request: RunRequest) -> RunOutcome | Running:
    body = await _body(response)
    if body is None:
        return breach(f"it has more than {BODY_LIMIT_BYTES} bytes")
    answer = read_answer(body)
    answered = (given.request_id for given in request.answers)
    if isinstance(answer, NeedsInput) and answer.request_id in answered:
        # It shows the old question until it has taken up the answer that it was sent.
        return Running(status="running")
    return answer


async def _refusal(response: aiohttp.ClientResponse) -> str:
    """The runner's own words about a refusal, where it has any that can be shown."""
    body = await _body(response)
    with suppress(RunnerUnavailable):
        outcome = read_answer(body or b"")
        if isinstance(outcome, Failed) and outcome.code != BREACH:
            return outcome.message
    return f"The flow refused the request (HTTP {response.status})."


async def _body(response: aiohttp.ClientResponse) -> bytes | None:
    """The whole body, or None as soon as it is longer than allowed."""
    chunks, size_bytes = [], 0
    async for chunk in response.content.iter_any():
        size_bytes += len(chunk)
        if size_bytes > BODY_LIMIT_BYTES:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
