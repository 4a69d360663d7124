"""A runner on loopback that answers as told, and the runs it is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from aiohttp import web

from service.runners.models import Answer, RunnerSpec, RunOutcome, RunRequest
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


async def run(runners: Runners, scripted: Scripted, *answers: Answer, **changes: Any) -> RunOutcome:
    async with serving(scripted):
        of = request(spec(scripted.port, **changes), *answers)
        return await runners.for_flow(of.flow).run(of)
