"""The HTTP runner against servers in trouble: what may pass is waited out or tried again later."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from service.errors import RunnerUnavailable
from service.runners.models import Done, Failed, RunOutcome
from service.runners.runners import Runners
from tests.support.runners import DONE, JOB, RUNNING, Scripted, request, run, serving, spec


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
