"""Both applications of a worker on their sockets, and how their connections end in order."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Mapping

from aiohttp import web

from service.server.models import Applications
from service.server.sockets import BACKLOG, take_the_last
from service.settings import ServerSettings

#: For what is in hand after its time is over, or in a hurry: the master then kills after 2 s.
LAST_CALL_S = 0.5
#: Connections taken from a queue in one turn of the loop. libuv takes one for each handle there is:
#: a worker whose turns are long would be left with a queue outside, where nobody can be refused.
ACCEPTED_AT_ONCE = 16
#: Between two looks whether the clients have left.
_LOOK_S = 0.05


class Serving:
    """Opened once; left by ``announce`` or ``retire``, ``finish``, ``close``."""

    def __init__(self, server: ServerSettings, applications: Applications) -> None:
        self._applications = applications
        self._farewell = _Farewell()
        self._listeners: list[socket.socket] = []
        self._public, self._internal = (
            self._runner(server, app) for app in (applications.public, applications.internal)
        )

    @property
    def requests(self) -> int:
        """How many the public application has had so far."""
        return self._public.server.requests_count if self._public.server else 0

    async def open(self, sockets: list[socket.socket]) -> None:
        """Start both; the internal socket is the last one, a public one there may be none."""
        await self._public.setup()
        await self._internal.setup()
        self._listeners = sockets[:-1]
        for runner, listeners in ((self._public, sockets[:-1]), (self._internal, sockets[-1:])):
            for listener in listeners:
                for each in (listener, *[listener.dup() for _ in range(ACCEPTED_AT_ONCE - 1)]):
                    await web.SockSite(runner, each, backlog=BACKLOG).start()

    def announce(self, *, ending: bool) -> None:
        """The replica is to leave: unready from now on; ``ending``: answers end their connections.

        Without a time for balancers to look at that, they find out by being refused, and had better
        not connect anew for every request until then.
        """
        self._applications.drain()
        if ending:
            self._say_farewell()

    async def retire(self) -> None:
        """This worker is to leave, and its siblings accept from the same sockets."""
        for runner in (self._public, self._internal):
            await _stop_accepting(runner)

    async def finish(self, *, linger_s: float, within_s: float) -> None:
        """Take no more clients, and wait for the requests in hand; then they are cancelled.

        Idle connections stay for ``linger_s``: a balancer that keeps them shorter closes them
        itself, so none of its requests meets one that is just being closed.
        """
        if self._public.sites:
            for listener in self._listeners:
                await take_the_last(listener)
            await _stop_accepting(self._public)
        self._say_farewell()
        if server := self._public.server:
            began_s = time.monotonic()
            longest_s = min(linger_s, within_s)
            while server.connections and time.monotonic() - began_s < longest_s:  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_S)
            server.pre_shutdown()
            left_s = within_s - (time.monotonic() - began_s)
            await server.shutdown(max(_LOOK_S, left_s))  # which takes 0 for endless

    async def close(self) -> None:
        """Close all the applications hold; probes and metrics are answered until the last."""
        await self._public.cleanup()
        await self._internal.cleanup()

    def _say_farewell(self) -> None:
        """From now on an answer ends its connection; who waits for news is answered at once."""
        self._farewell.said = True
        self._applications.release()

    def _runner(self, server: ServerSettings, app: web.Application) -> web.AppRunner:
        app.on_response_prepare.append(self._farewell)
        return web.AppRunner(
            app,
            access_log=None,  # the context middleware writes it
            handler_cancellation=server.handler_cancellation,
            keepalive_timeout=server.keepalive_timeout,
            shutdown_timeout=LAST_CALL_S,
        )


async def _stop_accepting(runner: web.AppRunner) -> None:
    for site in list(runner.sites):
        await site.stop()


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
