"""One connection between BEGIN and COMMIT; made by ``Database.transaction``."""

from __future__ import annotations

from service.database.classes import Statement, StatementClass
from service.database.connection import Connection
from service.database.statements import (
    Limit,
    Params,
    Result,
    Sender,
    StatementRunner,
    limit_until,
    run,
)
from service.errors import StatementFailed, TollgateError

# Tidying up after a failed transaction is not worth more: closing the connection does the same.
_ROLLBACK_TIMEOUT_S = 1.0
# To give up at the very end leaves open whether it was done: the commit gets this long at least.
_COMMIT_TIMEOUT_S = 1.0
# A worker that stops between two statements of a transaction gives up its locks.
_IDLE_MS = 10_000

_BEGIN = Statement(
    f"BEGIN; SET LOCAL idle_in_transaction_session_timeout = {_IDLE_MS}",
    name="begin",
    kind=StatementClass.WRITE,
)
_COMMIT = Statement("COMMIT", name="commit", kind=StatementClass.WRITE)


class Transaction(StatementRunner):
    """All its statements together end with ``ends_at_s`` (``time.monotonic``)."""

    def __init__(
        self, connection: Connection, sender: Sender, ends_at_s: float, besides: str
    ) -> None:
        self._connection = connection
        self._sender = sender
        self._ends_at_s = ends_at_s
        self._besides = besides

    async def _run(self, text: str, params: Params | None, timeout_s: float | None) -> Result:
        # Always announced: an earlier statement's shorter limit would hold on in the transaction.
        limit = limit_until(self._ends_at_s, shorter_s=timeout_s, besides=self._besides)
        return await self._sender.send(self._connection, Statement.of(text), params, limit)

    async def begin(self) -> None:
        await self._sender.send(
            self._connection, _BEGIN, None, limit_until(self._ends_at_s), announce=False
        )

    async def commit(self) -> None:
        """Raises StatementFailed if PostgreSQL rolled back instead, which it does silently."""
        limit = limit_until(self._ends_at_s, least_s=_COMMIT_TIMEOUT_S)
        result = await self._sender.send(self._connection, _COMMIT, None, limit, announce=False)
        if result.tag == "ROLLBACK":
            raise StatementFailed("The transaction was rolled back: a statement in it had failed.")

    async def rollback(self) -> None:
        """Never raises; a connection that cannot roll back is closed, which does the same."""
        if self._connection.closed or self._connection.idle():
            return
        try:
            await run(
                self._connection, "ROLLBACK", None, Limit(_ROLLBACK_TIMEOUT_S), announce=False
            )
        except TollgateError:
            self._connection.close()
