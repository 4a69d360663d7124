"""A runner that takes its time, so that kills fall into runs; the same job id is the same run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from scripts.loopback import LOOPBACK

RUN_S = 0.8
POLL_S = 0.2


class SlowRunner:
    def __init__(self) -> None:
        self.url = ""
        #: How often each job's start was posted: more than once where a run was taken over.
        self.starts: Counter[str] = Counter()
        self._done_at_s: dict[str, float] = {}

    async def start(self, request: web.Request) -> web.Response:
        job = str((await request.json())["job_id"])
        self.starts[job] += 1
        self._done_at_s.setdefault(job, time.monotonic() + RUN_S)
        return self._answer(job)

    async def poll(self, request: web.Request) -> web.Response:
        job = request.match_info["job"]
        return self._answer(job) if job in self._done_at_s else web.Response(status=404)

    def _answer(self, job: str) -> web.Response:
        if time.monotonic() < self._done_at_s[job]:
            return web.json_response({"status": "running", "poll_after": POLL_S})
        return web.json_response({"status": "done", "result": f"What came of {job}."})


@asynccontextmanager
async def slow_runner() -> AsyncIterator[SlowRunner]:
    """Served in this process until the block ends."""
    runner, app = SlowRunner(), web.Application()
    app.router.add_post("/runs", runner.start)
    app.router.add_get("/runs/{job}", runner.poll)
    serving = web.AppRunner(app, access_log=None)
    await serving.setup()
    try:
        await web.TCPSite(serving, LOOPBACK, 0).start()
        runner.url = f"http://{LOOPBACK}:{serving.addresses[0][1]}/runs"
        yield runner
    finally:
        await serving.cleanup()
