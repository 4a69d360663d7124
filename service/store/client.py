"""The one way to Redis: bounded connections, short time-outs, no silent retries, one error.

Redis holds nothing that may not be lost, so it may be away: every failure becomes
StoreUnavailable, within the time-outs of the settings and the deadline of the current request.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeVar

import redis.asyncio
import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from service.deadline import at_most
from service.errors import DeadlineExceeded, StoreUnavailable
from service.store import keys
from service.store.complaints import Complaints
from service.store.guard import Guard
from service.store.line import Line
from service.store.refusals import is_read_only, is_unfit
from service.store.routing import RoutedClient
from service.store.scripts import Script
from service.store.servers import evalsha_or_load, servers
from service.store.subscription import Subscription

if TYPE_CHECKING:
    from service.settings import RedisSettings

log = structlog.get_logger()

_Result = TypeVar("_Result")

#: Marks the probe writes by turns: enough to meet every node of a cluster within a minute or so.
PROBES = 64


class Store:
    """A Redis server, cluster or Sentinel service, opened and closed by whoever made this.

    ``url`` is redis://, unix://, redis+cluster://host:port,host:port or
    redis+sentinel://host:port,host:port/service-name; with TLS rediss:// instead of redis://, and
    so for the others. Anything else raises ConfigurationError.
    """

    def __init__(self, settings: RedisSettings, *, url: str) -> None:
        self._servers = servers(settings, url)
        self._address = self._servers.address
        # A connection may have to be made before the command is sent.
        self._limit_s = settings.timeout + settings.connect_timeout
        self._timeout_s = settings.timeout
        self._guard = Guard()
        self._client = self._servers.client
        self._away = False
        self._complaints = Complaints()
        self._lines: list[Line] = []
        self._probe = self.script(__package__, "probe", keys=1)

    @property
    def clustered(self) -> bool:
        """Are the keys spread over several nodes?"""
        return self._servers.clustered

    @property
    def follows(self) -> bool:
        """May another server take over, so that one looks for it where one refuses?"""
        return self._servers.follows

    def node_of(self, key: str) -> str:
        """The name of the node that holds this key, as far as is known."""
        return self._servers.node_of(key)

    def place_of(self, node: str) -> str:
        """The address of the server that is this node at the moment."""
        return self._servers.place_of(node)

    def nodes(self) -> tuple[str, ...]:
        """Every node that holds keys, by name, as far as is known."""
        return self._servers.nodes()

    async def look_again(self) -> None:
        """Ask a cluster's nodes, or sentinels, who holds what. Raises StoreUnavailable.

        That nobody answers this says nothing about the servers that hold the data.
        """
        try:
            async with asyncio.timeout(self._limit_s):
                await self._servers.look_again()
        except (RedisError, OSError, TimeoutError) as error:
            raise StoreUnavailable from error

    def line(self, node: str) -> Line:
        """A connection of the caller's own for packed commands; closed with the store."""
        line = Line(
            lambda: self._servers.connection(node),
            place=lambda: self._servers.place_of(node),
            limit_s=self._timeout_s,
            connect_limit_s=self._limit_s,
            note=self._note_line,
        )
        self._lines.append(line)
        return line

    def subscription(
        self, channel: str, told: Callable[[str], None], *, gap: Callable[[], None]
    ) -> Subscription:
        """What is published on a channel, over a connection of its own; the caller's to stop."""
        return Subscription(self._connection_to_any, channel, told, gap=gap, answer_s=self._limit_s)

    @property
    def client(self) -> redis.asyncio.Redis:
        """The client itself, for use inside ``run``; replies are bytes."""
        return self._client

    @property
    def away(self) -> bool:
        """Has the last call failed?"""
        return self._away

    async def open(self) -> None:
        """Look whether Redis is there. If it is not, say so and go on: it may come later."""
        try:
            await self.ping()
        except StoreUnavailable:
            log.warning("store_waiting", address=self._address)

    async def close(self) -> None:
        for line in self._lines:
            await line.close()
        await self._servers.close()

    async def ping(self) -> None:
        """Raise StoreUnavailable unless Redis answers; asks even while other calls are spared."""
        await self._run(self._client.ping, always=True)

    async def probe(self) -> None:
        """Raise StoreUnavailable unless Redis runs a script that writes; asks always, as ping."""
        key = keys.probe(random.randrange(PROBES))  # noqa: S311 - no secret
        await self._run(lambda: self._probe.send([key], [keys.PROBE_LIFE_MS]), always=True)

    def script(self, package: str, name: str, *, keys: int | None) -> Script:
        """``name``.lua of ``package`` as a callable; ``keys`` is its key count, None: any."""
        source = resources.files(package).joinpath(f"{name}.lua").read_text(encoding="utf-8")
        return Script(self, name, source, keys=keys)

    async def evalsha_or_load(
        self, sha: str, source: str, keys: Sequence[str], args: Sequence[str | int | bytes]
    ) -> Any:
        """Call a script, inside ``run``; a server that does not know it is told."""
        client: Any = self._client
        if isinstance(client, RoutedClient):
            return await client.evalsha_or_load(sha, source, keys, args)
        return await evalsha_or_load(client, sha, source, keys, args)

    async def run(self, operation: Callable[[], Awaitable[_Result]]) -> _Result:
        """Await ``operation()`` on the client and translate its failures.

        Raises StoreUnavailable; nothing is sent twice, so the operation may or may not have
        happened. Raises DeadlineExceeded where it was the request's time that ran out.
        """
        return await self._run(operation, always=False)

    async def _run(self, operation: Callable[[], Awaitable[_Result]], *, always: bool) -> _Result:
        limit_s = at_most(self._limit_s)
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        try:
            with self._guard.attempt(always=always):
                result = await self._translated(operation, limit_s)
        except StoreUnavailable as error:
            # Who refuses one command may take the next: that is told as ``store_refused``.
            if not refused(error) or is_unfit(error.__cause__):
                self._note(away=True, cause=error.__cause__)
            raise
        self._note(away=False, cause=None)
        if task and task.cancelling() > cancelled:
            # redis-py waits in a way that can swallow a cancellation (gh-86296, before 3.12).
            raise asyncio.CancelledError
        return result

    async def _translated(
        self, operation: Callable[[], Awaitable[_Result]], limit_s: float
    ) -> _Result:
        try:
            async with asyncio.timeout(limit_s):
                return await operation()
        except ResponseError as error:
            # The server is there and refuses (read-only, out of memory, no permission, a script
            # fault): worth an operator's attention, unlike a lost connection.
            reply = str(error)[:200]
            if times := self._complaints.due(reply):
                log.error("store_refused", address=self._address, reply=reply, times=times)
            if is_read_only(error) and not self._servers.follows:
                # Not the primary (any more): behind the same name there may be another one.
                await self._servers.look_again()
            raise StoreUnavailable("Redis refused a command.") from error
        except TimeoutError as error:
            if limit_s < self._limit_s:
                raise DeadlineExceeded from error
            raise StoreUnavailable from error
        except (RedisError, OSError) as error:
            raise StoreUnavailable from error

    async def _connection_to_any(self) -> AbstractConnection:
        """Not yet connected; to another node than the last time, if there are several."""
        if self._servers.follows:
            # The last one has failed, if there was one.
            with contextlib.suppress(StoreUnavailable):
                await self.look_again()
        nodes = self._servers.nodes()
        if not nodes:
            raise StoreUnavailable
        return self._servers.connection(random.choice(nodes))  # noqa: S311 - no secret

    def _note_line(self, failure: BaseException | None) -> None:
        if failure is None:
            self._guard.clear()
        else:
            self._servers.doubt()
        self._note(away=failure is not None, cause=failure)

    def _note(self, *, away: bool, cause: BaseException | None) -> None:
        if away == self._away:
            return
        self._away = away
        if away:
            log.warning("store_away", address=self._address, cause=type(cause).__name__)
        else:
            log.info("store_back", address=self._address)

    def __repr__(self) -> str:
        state = "resting" if self._guard.resting else "away" if self._away else "reachable"
        return f"<Store {self._address} {state}>"


def refused(error: BaseException) -> bool:
    """Was Redis there, and would not do it?"""
    return isinstance(error, StoreUnavailable) and isinstance(error.__cause__, ResponseError)
