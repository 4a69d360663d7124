"""The HTTP runner against real servers on loopback, sound ones and broken ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from service.errors import RunnerUnavailable
from service.runners.models import (
    Answer,
    Done,
    Failed,
    NeedsInput,
    RunnerSpec,
    RunOutcome,
    RunRequest,
)
from service.runners.runners import Runners

JOB = UUID("5b0c7a5e-3f0e-4a7c-9d55-0f8f6d3c1a11")
SCHEMA = {"input_data": [{"id": "a", "type": "text", "name": "A"}]}
DONE = {"status": "done", "result": "finished"}
RUNNING = {"status": "running", "poll_after": 0}
QUESTION = {"status": "needs_input", "request_id": "q1", "input_schema": SCHEMA}
Reply = Callable[[], web.StreamResponse] | dict[str, Any] | int


@dataclass
class Scripted:
    """A runner that answers what it is told to, and remembers what it was asked."""

    starts: list[Reply] = field(default_factory=list)
    polls: list[Reply] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    port: int = 0

    async def post(self, request: web.Request) -> web.StreamResponse:
        self._note(request, await request.json())
        return self._reply(self.starts)

    async def get(self, request: web.Request) -> web.StreamResponse:
        self._note(request, None)
        return self._reply(self.polls)

    def _note(self, request: web.Request, body: Any) -> None:
        self.seen.append((request.method, request.path, dict(request.headers), body))

    @staticmethod
    def _reply(replies: list[Reply]) -> web.StreamResponse:
        # The last reply stands for all that follow.
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, int):
            return web.Response(status=reply)
        return web.json_response(reply) if isinstance(reply, dict) else reply()

    @property
    def methods(self) -> list[str]:
        return [method for method, *_ in self.seen]


@asynccontextmanager
async def serving(scripted: Scripted) -> AsyncIterator[Scripted]:
    app = web.Application()
    app.router.add_post("/runs", scripted.post)
    app.router.add_get("/runs/{job}", scripted.get)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        [(_, scripted.port)] = runner.addresses
        yield scripted
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Flow:
    runner: RunnerSpec
    slug: str = "echo"


def spec(port: int, **changes: Any) -> RunnerSpec:
    # The time-outs are for what must not happen; tests of time-outs set their own.
    given = {"timeout_s": 60.0, "request_timeout_s": 30.0, "poll_s": 0.01, **changes}
    return RunnerSpec("http", f"http://127.0.0.1:{port}/runs", **given)


def request(runner: RunnerSpec, *answers: Answer, left_s: float = 3600) -> RunRequest:
    return RunRequest(
        job_id=JOB,
        flow=Flow(runner),
        variant="standard",
        inputs={"text": "Zoë"},
        answers=answers,
        deadline=datetime.now(UTC) + timedelta(seconds=left_s),
    )


@pytest.fixture
async def runners() -> AsyncIterator[Runners]:
    opened = Runners(
        environment={"RUNNER_TOKEN": "s3cret\n", "EMPTY_TOKEN": " ", "SPLIT_TOKEN": "a\r\nHost: b"}
    )
    await opened.open()
    yield opened
    await opened.close()


async def run(runners: Runners, scripted: Scripted, *answers: Answer, **changes: Any) -> RunOutcome:
    async with serving(scripted):
        of = request(spec(scripted.port, **changes), *answers)
        return await runners.for_flow(of.flow).run(of)


async def test_start_tells_the_runner_everything_it_needs(runners: Runners) -> None:
    scripted = Scripted([DONE])
    assert await run(runners, scripted, secret_env="RUNNER_TOKEN") == Done("finished")
    [(method, path, headers, body)] = scripted.seen
    assert (method, path) == ("POST", "/runs")
    assert headers["Idempotency-Key"] == str(JOB)
    assert headers["Authorization"] == "Bearer s3cret"
    assert headers["Content-Type"] == "application/json"
    deadline = body.pop("deadline")
    assert body == {
        "job_id": str(JOB),
        "idempotency_key": str(JOB),
        "flow": "echo",
        "variant": "standard",
        "input": {"text": "Zoë"},
        "answers": [],
    }
    assert deadline.endswith("Z")
    assert datetime.fromisoformat(deadline) > datetime.now(UTC)


async def test_no_secret_no_authorization(runners: Runners) -> None:
    scripted = Scripted([DONE])
    await run(runners, scripted)
    assert "Authorization" not in scripted.seen[0][2]


@pytest.mark.parametrize("name", ["ABSENT_TOKEN", "EMPTY_TOKEN", "SPLIT_TOKEN"])
async def test_unusable_secret_waits_for_the_operator(runners: Runners, name: str) -> None:
    with pytest.raises(RunnerUnavailable, match=name):
        runners.for_flow(Flow(spec(1, secret_env=name)))


async def test_running_is_polled_until_done(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [RUNNING, RUNNING, DONE])
    assert await run(runners, scripted) == Done("finished")
    assert scripted.methods == ["POST", "GET", "GET", "GET"]
    assert scripted.seen[1][1] == f"/runs/{JOB}"


async def test_question_and_answer(runners: Runners) -> None:
    asked = await run(runners, Scripted([QUESTION]))
    assert isinstance(asked, NeedsInput)
    assert asked.schema.document() == SCHEMA
    scripted = Scripted([DONE])
    answer = Answer(asked.request_id, {"a": "because"})
    assert await run(runners, scripted, answer) == Done("finished")
    _, _, headers, body = scripted.seen[0]
    assert body["answers"] == [{"request_id": "q1", "input": {"a": "because"}}]
    assert headers["Idempotency-Key"] == body["idempotency_key"] == f"{JOB}:1"


async def test_question_that_was_answered_is_not_asked_again(runners: Runners) -> None:
    scripted = Scripted([QUESTION], [QUESTION, DONE])
    assert await run(runners, scripted, Answer("q1", {"a": "x"})) == Done("finished")


async def test_second_question_is_passed_on(runners: Runners) -> None:
    second = {**QUESTION, "request_id": "q2"}
    outcome = await run(runners, Scripted([second]), Answer("q1", {"a": "x"}))
    assert isinstance(outcome, NeedsInput)


async def test_forgotten_run_is_started_again_under_its_key(runners: Runners) -> None:
    scripted = Scripted([RUNNING, DONE], [404])
    assert await run(runners, scripted) == Done("finished")
    keys = {headers.get("Idempotency-Key") for method, _, headers, _ in scripted.seen
            if method == "POST"}  # fmt: skip
    assert scripted.methods == ["POST", "GET", "POST"]
    assert keys == {str(JOB)}


async def test_runner_that_always_forgets_is_unavailable(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [404])
    with pytest.raises(RunnerUnavailable, match="forgets"):
        await run(runners, scripted)
    assert scripted.methods.count("POST") < 10


async def test_failure_is_passed_on(runners: Runners) -> None:
    error = {"code": "no-data", "message": "Nothing there.", "retryable": False}
    assert await run(runners, Scripted([{"status": "failed", "error": error}])) == Failed(
        "no-data", "Nothing there.", False
    )


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_refusal_fails_for_good(runners: Runners, status: int) -> None:
    outcome = await run(runners, Scripted([status]))
    assert outcome == Failed(
        "runner-refused", f"The flow refused the request (HTTP {status}).", False
    )


async def test_refusal_may_say_why(runners: Runners) -> None:
    error = {"code": "bad", "message": "The text is in no language I know."}

    def refuse() -> web.StreamResponse:
        return web.json_response({"status": "failed", "error": error}, status=422)

    outcome = await run(runners, Scripted([refuse]))
    assert outcome == Failed("runner-refused", "The text is in no language I know.", False)


@pytest.mark.parametrize("status", [204, 301, 307, 401, 403, 404, 405, 409, 429, 500, 502, 503])
async def test_trouble_at_the_start_may_pass(runners: Runners, status: int) -> None:
    with pytest.raises(RunnerUnavailable, match=str(status)):
        await run(runners, Scripted([status]))


async def test_requested_pause_is_reported(runners: Runners) -> None:
    def busy() -> web.StreamResponse:
        return web.Response(status=503, headers={"Retry-After": "17"})

    with pytest.raises(RunnerUnavailable) as caught:
        await run(runners, Scripted([busy]))
    assert caught.value.retry_after_s == 17


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e9", "999999999999", "Wed, 21 Oct 2026"])
async def test_unusable_pause_is_ignored(runners: Runners, text: str) -> None:
    def busy() -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": text})

    with pytest.raises(RunnerUnavailable) as caught:
        await run(runners, Scripted([busy]))
    assert caught.value.retry_after_s is None


async def test_redirect_is_not_followed_with_the_token(runners: Runners) -> None:
    elsewhere = Scripted([DONE])
    async with serving(elsewhere):

        def away() -> web.StreamResponse:
            location = f"http://127.0.0.1:{elsewhere.port}/runs"
            return web.Response(status=307, headers={"Location": location})

        with pytest.raises(RunnerUnavailable, match="307"):
            await run(runners, Scripted([away]), secret_env="RUNNER_TOKEN")
    assert elsewhere.seen == []


async def test_trouble_while_polling_is_waited_out(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [500, 429, 503, DONE])
    assert await run(runners, scripted) == Done("finished")
    assert scripted.methods.count("POST") == 1


async def test_lasting_trouble_while_polling_is_given_up(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [500])
    with pytest.raises(RunnerUnavailable, match="500"):
        await run(runners, scripted)
    assert scripted.methods.count("GET") < 10


async def test_oversized_answer_is_not_read_to_its_end(runners: Runners) -> None:
    def flood() -> web.StreamResponse:
        return web.Response(body=b"x" * (8 * 1024 * 1024), content_type="application/json")

    outcome = await run(runners, Scripted([flood]))
    assert isinstance(outcome, Failed)
    assert outcome.code == "runner-answer-invalid"


async def test_page_of_a_proxy_may_pass(runners: Runners) -> None:
    def page() -> web.StreamResponse:
        return web.Response(text="<h1>Back soon</h1>", content_type="text/html")

    with pytest.raises(RunnerUnavailable, match="not JSON"):
        await run(runners, Scripted([page]))


async def test_slow_answer_is_cut_off(runners: Runners) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client goes away
        writer.close()

    with pytest.raises(RunnerUnavailable, match="in time"):
        await against(runners, slow, request_timeout_s=0.2)


async def test_deadline_ends_a_run_that_never_ends(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [RUNNING])
    async with serving(scripted):
        of = request(spec(scripted.port), left_s=0.5)
        outcome = await runners.for_flow(of.flow).run(of)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.retryable) == ("run-too-late", False)
    assert len(scripted.seen) > 1


async def test_own_time_limit_ends_a_run_before_the_deadline(runners: Runners) -> None:
    outcome = await run(runners, Scripted([RUNNING], [RUNNING]), timeout_s=0.3)
    assert isinstance(outcome, Failed)


async def test_cancelled_run_stops_asking(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [RUNNING])
    async with serving(scripted):
        of = request(spec(scripted.port))
        task = asyncio.create_task(runners.for_flow(of.flow).run(of))
        while len(scripted.seen) < 3:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        count = len(scripted.seen)
        await asyncio.sleep(0.1)
        assert len(scripted.seen) <= count + 1  # one may have been on its way


ANSWER = json.dumps(DONE).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"HTTP/1.1 200",
        b"nonsense\r\n\r\n",
        HEAD % 1000 + ANSWER,
        HEAD % len(ANSWER) + ANSWER[:-3],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    ],
)
async def test_broken_exchange_may_pass(runners: Runners, content: bytes) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(content)
        await writer.drain()
        writer.close()

    with pytest.raises(RunnerUnavailable):
        await against(runners, broken)


async def test_reset_connection_may_pass(runners: Runners) -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    with pytest.raises(RunnerUnavailable):
        await against(runners, reset)


async def test_absent_runner_may_come_back(runners: Runners) -> None:
    async with serving(Scripted([DONE])) as gone:
        port = gone.port
    of = request(spec(port))
    with pytest.raises(RunnerUnavailable, match="reached"):
        await runners.for_flow(of.flow).run(of)


class Losing(Scripted):
    """Keeps the contract (one job id, one run), but loses the answer to the first start."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, str] = {}

    async def post(self, request: web.Request) -> web.StreamResponse:
        key = request.headers["Idempotency-Key"]
        if key not in self.results:
            self.results[key] = f"run {len(self.results) + 1}"
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"status": "done", "result": self.results[key]})


async def test_lost_answer_means_no_second_run(runners: Runners) -> None:
    async with serving(Losing()) as losing:
        of = request(spec(losing.port))
        with pytest.raises(RunnerUnavailable):
            await runners.for_flow(of.flow).run(of)
        assert await runners.for_flow(of.flow).run(of) == Done("run 1")


async def test_closed_runners_are_unavailable() -> None:
    closed = Runners(environment={})
    with pytest.raises(RunnerUnavailable):
        closed.for_flow(Flow(spec(1)))
    await closed.close()


async def against(
    runners: Runners,
    behaviour: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any],
    **changes: Any,
) -> RunOutcome:
    """Run against a server that speaks bytes."""
    server = await asyncio.start_server(behaviour, "127.0.0.1", 0)
    async with server:
        of = request(spec(server.sockets[0].getsockname()[1], **changes))
        return await runners.for_flow(of.flow).run(of)
