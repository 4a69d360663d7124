"""A worker process: one event loop that serves until asked to leave, and then leaves politely.

Leaving with the replica (SIGTERM): unready at once, still accepting for ``drain_delay`` while every
answer closes its connection, then no new connections, then up to ``shutdown_timeout`` for what is
in hand, then everything is closed. Being replaced (RETIRE): the same without turning unready, as
the siblings go on accepting from the shared sockets. SIGQUIT: at once, in either.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping

import structlog
from aiohttp import web
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.arbiter import Arbiter

from service.errors import ConfigurationError
from service.logs import configure_logging
from service.server.models import Applications
from service.settings import ServerSettings, Settings

HEARTBEAT_INTERVAL_S = 1.0
#: For what is in hand after its time is over, or in a hurry: the master then kills after 2 s.
LAST_CALL_S = 0.5
#: New objects between two looks of the garbage collector (Python's own threshold: 700).
COLLECT_AFTER = 10_000

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

log = structlog.get_logger()


class Worker(GunicornUVLoopWebWorker):
    """What gunicorn forks; serves the applications its ``app`` makes on the sockets it is given."""

    RETIRE = signal.SIGHUP

    def init_signals(self) -> None:
        # The master aborts a worker whose loop hangs: the stacks are printed in C, by no loop.
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        faulthandler.enable()
        for ignored in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._leaving = asyncio.Event()
        self._hurry = asyncio.Event()
        self._retiring = False
        self.loop.add_signal_handler(signal.SIGTERM, self._leaving.set)
        self.loop.add_signal_handler(self.RETIRE, self._retire)
        self.loop.add_signal_handler(signal.SIGQUIT, self._leave_now)
        # A terminal's Ctrl-C reaches us too; what it means is the master's to say.
        self.loop.add_signal_handler(signal.SIGINT, lambda: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    async def _run(self) -> None:
        settings: Settings = self.app.settings
        configure_logging(settings.logging)
        heartbeat = asyncio.create_task(self._beat())
        try:
            serving = _Serving(settings.server, await self.wsgi(settings))
            await serving.open(self.sockets)
            _calm_collector()
            self.booted = True
            log.info("worker_ready", worker=os.getpid())
            await self._leaving.wait()
            await self._leave(serving, settings.server)
        except ConfigurationError as error:
            sys.stderr.writelines(f"tollgate: {line}\n" for line in error.message.splitlines())
            self.exit_code = Arbiter.APP_LOAD_ERROR
        finally:
            heartbeat.cancel()
            await _end_all_tasks()

    async def _beat(self) -> None:
        """Tell the master that the loop turns; see that there is a master."""
        while True:
            self.notify()
            if os.getppid() != self.ppid and not self._leaving.is_set():
                log.error("master_gone", worker=os.getpid())
                self._retire()
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)

    async def _leave(self, serving: _Serving, server: ServerSettings) -> None:
        log.info("worker_leaving", worker=os.getpid(), retiring=self._retiring)
        await serving.announce(accepting=not self._retiring)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(server.drain_delay):
                await self._hurry.wait()
        finishing = asyncio.create_task(serving.finish(server.shutdown_timeout))
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({finishing, hurry}, return_when=asyncio.FIRST_COMPLETED)
        finishing.cancel()
        await asyncio.wait({finishing})
        await serving.close()
        log.info("worker_left", worker=os.getpid())

    def _retire(self) -> None:
        self._retiring = not self._leaving.is_set()
        self._leaving.set()

    def _leave_now(self) -> None:
        self._hurry.set()
        self._leaving.set()


def _calm_collector() -> None:
    """What is there now stays; what requests make is looked through less often.

    Requests in flight look like young garbage to the collector: with Python's own threshold it went
    through them ten times in a thousand requests, about 1 µs of CPU each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


class _Serving:
    """Both applications on their sockets."""

    def __init__(self, server: ServerSettings, applications: Applications) -> None:
        self._applications = applications
        self._farewell = _Farewell()
        self._public, self._internal = (
            self._runner(server, app) for app in (applications.public, applications.internal)
        )

    async def open(self, sockets: list[socket.socket]) -> None:
        """Start both; the internal socket is the last one, a public one there may be none."""
        await self._public.setup()
        await self._internal.setup()
        for runner, listeners in ((self._public, sockets[:-1]), (self._internal, sockets[-1:])):
            for listener in listeners:
                await web.SockSite(runner, listener).start()

    async def announce(self, *, accepting: bool) -> None:
        """From now on every answer ends its connection; ``accepting`` means new ones may come."""
        self._farewell.said = True
        self._applications.release()
        if accepting:
            self._applications.drain()
            return
        for runner in (self._public, self._internal):
            for site in runner.sites:
                await site.stop()

    async def finish(self, within_s: float) -> None:
        """Take no more clients, and wait for the requests in hand; then they are cancelled."""
        for site in self._public.sites:
            await site.stop()
        if server := self._public.server:
            server.pre_shutdown()
            await server.shutdown(within_s)

    async def close(self) -> None:
        """Close all the applications hold; probes and metrics are answered until the last."""
        await self._public.cleanup()
        await self._internal.cleanup()

    def _runner(self, server: ServerSettings, app: web.Application) -> web.AppRunner:
        app.on_response_prepare.append(self._farewell)
        return web.AppRunner(
            app,
            access_log=None,  # the context middleware writes it
            handler_cancellation=server.handler_cancellation,
            keepalive_timeout=server.keepalive_timeout,
            shutdown_timeout=LAST_CALL_S,
        )


class _Farewell:
    """Once ``said``, every answer ends its connection; a signal (``on_response_prepare``)."""

    def __init__(self) -> None:
        self.said = False

    def lines_for(self, _headers: Mapping[str, str]) -> str | None:
        """None: the connection is to end, which is more than a line (``service.api.doorman``)."""
        return None if self.said else ""

    async def __call__(self, _request: web.Request, response: web.StreamResponse) -> None:
        if self.said:
            response.force_close()
            response.headers["Connection"] = "close"


async def _end_all_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_CALL_S)


@contextlib.contextmanager
def masked_signals() -> Iterator[None]:
    """Hold back the signals a worker handles; a forked worker lets them in when it is ready."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
