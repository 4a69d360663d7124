"""aiopg 1.4.0 as it comes, with the verbs of ours: what service.database repairs."""

from __future__ import annotations

import asyncio

import aiopg
import aiopg.pool

from service.database.dsn import Dsn


class BarePool:
    """``borrow``, ``release`` and ``shut`` on aiopg's own pool."""

    def __init__(self, dsn: Dsn, *, minsize: int, maxsize: int, connect_timeout_s: float) -> None:
        self._arguments = (dsn, minsize, maxsize, connect_timeout_s)

    async def fill(self, wait_s: float) -> bool:
        dsn, minsize, maxsize, connect_timeout_s = self._arguments
        async with asyncio.timeout(wait_s):
            self._pool = await aiopg.pool.Pool.from_pool_fill(
                await dsn.resolve(), minsize, maxsize, connect_timeout_s,
                enable_json=False, enable_hstore=False, enable_uuid=True,
                echo=False, on_connect=None, pool_recycle=-1,
            )  # fmt: skip
        return True

    async def borrow(self, timeout_s: float) -> aiopg.Connection:
        async with asyncio.timeout(timeout_s):
            connection: aiopg.Connection = await self._pool.acquire()
            return connection

    def release(self, connection: aiopg.Connection) -> asyncio.Future[None]:
        return self._pool.release(connection)

    async def shut(self, timeout_s: float) -> None:
        self._pool.close()
        await self._pool.wait_closed()

    async def clear_up(self) -> None:
        """What ``shut`` cannot do; for the end of the test."""
        self._pool.terminate()
        await self._pool.clear()
