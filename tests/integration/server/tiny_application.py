"""A program for the tests beside it: Tollgate's serving, a tiny application in place of its own."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from aiohttp import web

from service.api.doorman import Doorman
from service.database import PoolStatus
from service.errors import CannotListen, ConfigurationError
from service.server import Applications, launch, master, serve, worker
from service.settings import Settings, load

NOTES = Path(os.environ["TEST_NOTES"])


async def refused(request: web.Request) -> web.Response:
    answer = b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 11\r\n\r\nat the door"
    Doorman.call(request, lambda _message, _lines: answer)
    return web.Response(status=429, text="inside")


async def slow(_request: web.Request) -> web.Response:
    (NOTES / "slow-began").touch()
    while not (NOTES / "slow-may-end").exists():
        await asyncio.sleep(0.02)
    return web.Response(text="done")


async def applications(settings: Settings) -> Applications:
    # After the fork, as in earnest: prometheus_client decides at import where its values live.
    from prometheus_client import CollectorRegistry  # noqa: PLC0415

    from service.metrics import Metrics, page_handler  # noqa: PLC0415

    if settings.server.default_flow == "misconfigured":
        raise ConfigurationError("first fault\nsecond fault")
    while settings.server.default_flow == "slow-start" and not (NOTES / "may-start").exists():
        await asyncio.sleep(0.02)
    metrics = Metrics(CollectorRegistry())
    if settings.server.default_flow == "broken":
        raise ValueError("a bug at start")
    draining = asyncio.Event()

    async def about(_request: web.Request) -> web.Response:
        server = settings.server
        return web.json_response(
            {"flow": server.default_flow, "port": server.port, "worker": os.getpid()}
        )

    async def hang(_request: web.Request) -> web.Response:
        while True:
            time.sleep(1)  # noqa: ASYNC251  (that is the fault)

    async def ready(_request: web.Request) -> web.Response:
        return web.Response(status=503 if draining.is_set() else 200)

    async def lifespan(_app: web.Application) -> AsyncIterator[None]:
        metrics.database.show(PoolStatus(10, 10, 0, 0, 10, 20, {}, {}))
        metrics.payment_calls.labels("create", "ok").inc()
        yield
        (NOTES / f"closed-{os.getpid()}").touch()

    public, internal = web.Application(), web.Application()
    public.router.add_route("*", "/about", about)
    public.router.add_get("/slow", slow)
    public.router.add_get("/refused", refused)
    public.router.add_get("/hang", hang)
    public.cleanup_ctx.append(lifespan)
    for app in (public, internal):
        app.router.add_get("/readyz", ready)
    internal.router.add_get("/metrics", page_handler(CollectorRegistry()))
    return Applications(public, internal, draining.set)


def tell_the_first_worker_to_leave_before_its_loop_runs() -> None:
    load = worker.Worker.load_wsgi

    def load_and_be_told(self: worker.Worker) -> None:
        load(self)
        with contextlib.suppress(FileExistsError):
            (NOTES / "told").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGTERM)

    worker.Worker.load_wsgi = load_and_be_told


def reload() -> Settings:
    settings = load().settings
    if settings.server.default_flow == "broken-reading":
        raise ValueError("a bug in reading")
    return settings


def main() -> int:
    if "TEST_TELL_EARLY" in os.environ:
        tell_the_first_worker_to_leave_before_its_loop_runs()
    launch.HANG_TIMEOUT_S = int(os.environ.get("TEST_HANG_TIMEOUT_S", launch.HANG_TIMEOUT_S))
    master.SAME_WISH_S = float(os.environ.get("TEST_SAME_WISH_S", master.SAME_WISH_S))
    try:
        return serve(load().settings, reload=reload, factory=applications)
    except CannotListen as error:
        print(error.message, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
