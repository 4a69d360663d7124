"""What Redis tells by PUBLISH: one connection of this worker's own, from ``start`` to ``stop``.

A message is lost with the connection it was meant for, so there may have been a gap whenever one
is made. A server that is gone shows at once, one that is silent when it leaves a PING unanswered.
In a cluster any node will do: PUBLISH reaches all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from service.errors import StoreUnavailable
from service.tasks import end, persist

#: Nothing heard for so long: the server is asked whether it is still there.
QUIET_S = 3.0
#: A server that is away is looked for at least this often.
LONGEST_PAUSE_S = 2.0

log = structlog.get_logger()


class Subscription:
    """One channel; made by ``Store.subscription``.

    ``told(message)`` of each message; ``gap()`` after every connecting, the first included: some
    may have been missed. Both must be quick.
    """

    def __init__(
        self,
        connection: Callable[[], Awaitable[AbstractConnection]],
        channel: str,
        told: Callable[[str], None],
        *,
        gap: Callable[[], None],
        answer_s: float,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._told = told
        self._gap = gap
        self._answer_s = answer_s
        self._subscribing: asyncio.Task[None] | None = None
        self._connected = False
        self._loss_told = False

    @property
    def connected(self) -> bool:
        """Would a message sent now be heard, as far as is known?"""
        return self._connected

    async def start(self) -> None:
        """Connect in the background, and go on until ``stop``."""
        self._subscribing = asyncio.create_task(
            persist(self._session, failed=self._failed, longest_pause_s=LONGEST_PAUSE_S),
            name="store-subscription",
        )

    async def stop(self) -> None:
        """Close the connection. May be called twice, and without a start."""
        task, self._subscribing = self._subscribing, None
        if task:
            await end(task)

    async def _session(self) -> None:
        """One connection, from its making to its loss, which raises."""
        connection = await self._connection()
        try:
            async with asyncio.timeout(self._answer_s):
                await connection.connect()  # type: ignore[no-untyped-call]
                await connection.send_command("SUBSCRIBE", self._channel)
                while _kind(await _read(connection)) != b"subscribe":
                    pass
            self._connected, self._loss_told = True, False
            log.info("store_subscribed", channel=self._channel)
            _tell(self._gap)
            while True:
                await self._hear(connection)
        finally:
            self._connected = False
            await connection.disconnect(nowait=True)

    async def _hear(self, connection: AbstractConnection) -> None:
        try:
            async with asyncio.timeout(QUIET_S):
                said = await _read(connection)
        except TimeoutError:
            await connection.send_command("PING", check_health=False)
            async with asyncio.timeout(self._answer_s):
                said = await _read(connection)
        if _kind(said) == b"message":
            _tell(self._told, said[2].decode(errors="replace"))

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, RedisError | OSError | TimeoutError | StoreUnavailable):
            log.error("store_subscription_failed", channel=self._channel, exc_info=error)
        elif not self._loss_told:
            self._loss_told = True
            log.warning("store_subscription_lost", channel=self._channel,
                        cause=type(error).__name__)  # fmt: skip

    def __repr__(self) -> str:
        state = "hearing" if self._connected else "connecting" if self._subscribing else "stopped"
        return f"<Subscription {self._channel} {state}>"


async def _read(connection: AbstractConnection) -> Any:
    """What comes next; given up, it is not lost: what has arrived is read the next time."""
    return await connection.read_response(
        disable_decoding=True, disconnect_on_error=False, push_request=True
    )


def _kind(said: Any) -> Any:
    return said[0] if isinstance(said, list) and said else None


def _tell(hearer: Callable[..., None], *what: str) -> None:
    try:
        hearer(*what)
    except Exception:
        # It still wants to hear, the next time.
        log.exception("store_subscription_hearer_failed")
