"""A worker process: one event loop that serves until asked to leave, and then leaves politely.

Leaving with the replica: unready at once, still accepting for ``drain_delay``, then no new
connections and an end to each old one with its next answer, up to ``shutdown_timeout`` for what is
in hand, then everything is closed. Being replaced, or told to stop alone: no new connections at
once, the rest the same without turning unready, as the siblings go on accepting from the shared
sockets. SIGTERM says to leave, ``Standing`` which of the two; SIGQUIT: at once, in either.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import gc
import os
import random
import signal
import sys
from collections.abc import Iterator
from typing import Any

import structlog
from aiohttp.worker import GunicornUVLoopWebWorker
from gunicorn.arbiter import Arbiter

from service.errors import ConfigurationError
from service.logs import configure_logging
from service.server.serving import LAST_CALL_S, Serving
from service.server.standing import Standing
from service.settings import ServerSettings, Settings

HEARTBEAT_INTERVAL_S = 1.0
#: For closing pools and the like, beyond the time of the runs in hand. Together with the last
#: connections to be accepted (2 s) and what aiohttp adds to a limit (1 s) within the master's
#: STOP_MARGIN_S, or the master would kill before this has been cut short and said so.
CLOSE_S = 6.0
#: Workers that started together are not to be replaced together: up to this share more requests.
SPREAD = 0.2
#: New objects between two looks of the garbage collector (Python's own threshold: 700).
COLLECT_AFTER = 10_000

_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

log = structlog.get_logger()


class Worker(GunicornUVLoopWebWorker):
    """What gunicorn forks; serves the applications its ``app`` makes on the sockets it is given."""

    def __init__(self, *gunicorns: Any) -> None:
        super().__init__(*gunicorns)
        self.standing = Standing()  # in the master, so that both have it

    def init_signals(self) -> None:
        # The master aborts a worker whose loop hangs: the stacks are printed in C, by no loop.
        signal.signal(signal.SIGABRT, signal.SIG_DFL)
        faulthandler.enable()
        # SIGHUP comes when the terminal goes; what it means is the master's to say, like SIGINT.
        for ignored in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            signal.signal(ignored, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._leaving = asyncio.Event()
        self._hurry = asyncio.Event()
        self.loop.add_signal_handler(signal.SIGTERM, self._leaving.set)
        self.loop.add_signal_handler(signal.SIGQUIT, self._leave_now)
        # A terminal's Ctrl-C reaches us too; what it means is the master's to say.
        self.loop.add_signal_handler(signal.SIGINT, lambda: None)

    async def _run(self) -> None:
        # Only now: uvloop loses what comes between a handler's making and its loop's first turn.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
        settings: Settings = self.app.settings
        configure_logging(settings.logging)
        heartbeat = asyncio.create_task(self._beat())
        try:
            serving = Serving(settings.server, await self.wsgi(settings))
            await serving.open(self.sockets)
            _calm_collector()
            self.booted = True
            self.standing.serve()
            log.info("worker_ready", worker=os.getpid())
            await self._tire(serving, settings.server.max_requests)
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
                self._leaving.set()
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)

    async def _tire(self, serving: Serving, max_requests: int) -> None:
        """Ask to be replaced after so many requests (0: never); returns then, or when leaving."""
        most = max_requests * (1 + SPREAD * random.random())  # noqa: S311 (no secret)
        while not self._leaving.is_set():
            if most and serving.requests >= most and not self.standing.tired:
                log.info("worker_tired", worker=os.getpid(), requests=serving.requests)
                self.standing.tire()
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_INTERVAL_S if most else None):
                    await self._leaving.wait()

    async def _leave(self, serving: Serving, server: ServerSettings) -> None:
        retiring = not self.standing.with_replica
        log.info("worker_leaving", worker=os.getpid(), retiring=retiring)
        if retiring:
            await serving.retire()
        else:
            serving.announce(ending=server.drain_delay > 0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(server.drain_delay):
                    await self._hurry.wait()
        finishing = asyncio.create_task(
            serving.finish(linger_s=server.idle_linger, within_s=server.shutdown_timeout)
        )
        hurry = asyncio.create_task(self._hurry.wait())
        await asyncio.wait({finishing, hurry}, return_when=asyncio.FIRST_COMPLETED)
        finishing.cancel()
        await asyncio.wait({finishing})
        try:
            async with asyncio.timeout(server.shutdown_timeout + CLOSE_S):
                await serving.close()
        except TimeoutError:
            log.error("worker_closing_cut_short", worker=os.getpid())
        log.info("worker_left", worker=os.getpid())

    def _leave_now(self) -> None:
        self._hurry.set()
        self._leaving.set()


def _calm_collector() -> None:
    """Spare the garbage collector what exists now, and have it run less often.

    Requests in flight look like young garbage to the collector: with Python's own threshold it went
    through them ten times in a thousand requests, about 1 µs of CPU each.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *gc.get_threshold()[1:])


async def _end_all_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=LAST_CALL_S)


@contextlib.contextmanager
def masked_signals() -> Iterator[None]:
    """Hold back the signals a worker handles; a forked worker lets them in when its loop runs."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
