"""A client that sends each command to the server that holds its key, and follows when it moves.

redis-py has such clients; they are not used because under load or in trouble they (8.1, read and
measured) send ASKING over another connection than the command it is for, refuse instead of waiting
when all connections to a node are in use, cut the connections to every node (and lose what is on
its way there) after each fifth MOVED and each CLUSTERDOWN, and cannot say whether something was
sent at all. Its connections, pools and commands are used; here is only the way.

What may be sent again: a command that could not be sent, or that the server refused unread
(``refusals``). It follows redirects, and else goes once more, if by then another server holds the
key. After a lost answer nothing is sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from redis.commands import AsyncCoreCommands
from redis.event import EventDispatcher
from redis.exceptions import (
    AskError,
    ConnectionError,  # noqa: A004
    MovedError,
    NoScriptError,
    RedisError,
    TryAgainError,
)

from service.store.pools import Pools, name_of
from service.store.refusals import is_unfit

#: MOVED, then ASK, is one move; the others are for what moves on meanwhile.
MOST_SENT = 8
#: A slot with several keys of one command is at two places until the last of them has moved.
TRY_AGAIN_S = 0.01
#: Commands whose second word says how many keys follow.
_COUNTED = {"EVALSHA", "EVAL"}
_WITHOUT_KEY = {"PING", "TIME", "PUBLISH", "INFO", "SCRIPT LOAD"}


class NotSentError(ConnectionError):
    """There was no connection to send it by."""


class Places(Protocol):
    """Who holds what, as far as is known (``cluster``, ``sentinel``)."""

    def server_of(self, key: str | bytes | None) -> str | None:
        """The address of the key's server; without a key, of any."""

    def moved(self, key: str | bytes, server: str) -> None:
        """The key's server says so."""

    async def look_again(self) -> None: ...

    def doubt(self) -> None:
        """Something went wrong: look again soon, without anybody waiting for it."""


@dataclass(frozen=True, slots=True)
class _Next:
    """Where a command goes next, and whether that server must be told that it is meant."""

    server: str
    asking: bool = False


class RoutedClient(AsyncCoreCommands):
    """redis-py's commands; one command at a time, whose keys are together."""

    #: What redis-py's own clients tell the outside of themselves.
    _event_dispatcher = EventDispatcher()

    def __init__(self, places: Places, pools: Pools) -> None:
        self._places = places
        self._pools = pools

    async def evalsha_or_load(self, sha: str, source: str, keys: Sequence[str], args: Any) -> Any:
        """The script, made known to whichever server does not know it."""
        return await self.execute_command("EVALSHA", sha, len(keys), *keys, *args, source=source)

    async def execute_command(self, *args: Any, source: str | None = None, **options: Any) -> Any:
        """``source`` is the script's, if this calls one."""
        key = _key_of(args)
        to, looked = _Next(await self._server_of(key)), False
        for _ in range(MOST_SENT):
            try:
                return await self._sent(to, args, options)
            except (AskError, TryAgainError) as error:
                to = await self._redirected(error, to, key)
            except NoScriptError:
                if source is None:
                    raise
                await self._sent(_Next(to.server), ("SCRIPT LOAD", source), {})
                source = None
            except Exception as error:
                if looked or not (isinstance(error, NotSentError) or is_unfit(error)):
                    self._places.doubt()
                    raise
                looked = True
                to = await self._elsewhere(to, key, error)
            except BaseException:
                # Given up: perhaps because nothing came.
                self._places.doubt()
                raise
        raise ConnectionError("sent from server to server without an end")

    async def _redirected(
        self, error: AskError | TryAgainError, asked: _Next, key: str | bytes | None
    ) -> _Next:
        if isinstance(error, TryAgainError):
            await asyncio.sleep(TRY_AGAIN_S)
            return _Next(await self._server_of(key))
        # A cluster whose nodes do not know their own names answers without: the same host.
        server = name_of(error.host or asked.server.rpartition(":")[0], error.port)
        if not isinstance(error, MovedError):
            return _Next(server, asking=True)
        if key is not None:
            self._places.moved(key, server)
        return _Next(server)

    async def _elsewhere(self, asked: _Next, key: str | bytes | None, error: Exception) -> _Next:
        """Raises ``error`` where there is no other place."""
        await self._places.look_again()
        server = await self._server_of(key)
        if server == asked.server:
            raise error
        return _Next(server)

    async def _server_of(self, key: str | bytes | None) -> str:
        server = self._places.server_of(key)
        if server is None:
            await self._places.look_again()
            server = self._places.server_of(key)
        if server is None:
            raise NotSentError("no server is known to hold this")
        return server

    async def _sent(self, to: _Next, args: Sequence[Any], options: dict[str, Any]) -> Any:
        client = self._pools.of(to.server)
        pool: Any = client.connection_pool
        try:
            connection = await pool.get_connection()
        except (RedisError, OSError) as error:
            raise NotSentError(str(error)) from error
        try:
            # ASKING is for the next command on the same connection.
            commands = [("ASKING",), args] if to.asking else [args]
            await connection.send_packed_command(connection.pack_commands(commands))
            if to.asking:
                await connection.read_response()
            return await client.parse_response(connection, args[0], **options)
        finally:
            await pool.release(connection)


def _key_of(args: Sequence[Any]) -> str | bytes | None:
    name = str(args[0]).upper()
    if name in _COUNTED:
        key: str | bytes | None = args[3] if int(args[2]) else None
        return key
    if name in _WITHOUT_KEY or len(args) < 2:
        return None
    return args[1]  # type: ignore[no-any-return]
