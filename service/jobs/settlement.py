"""Results to the chain: an outbox that is done only when the payment service shows our hash there.

``submit-result`` is a request, not the deed: it is sent, then read back until the payment is in
ResultSubmitted (or Disputed) with our hash. States that wait for a hand are asked to recover a few
times; then they wait for that hand, and the log says so.
"""

from __future__ import annotations

import time
from typing import Protocol

import structlog

from service import deadline, tracing
from service.errors import (
    CircuitOpen,
    DeadlineExceeded,
    PaymentMisconfigured,
    PaymentRejected,
    TollgateError,
)
from service.jobs.models import Settlement
from service.jobs.outbox import MOST_RECOVERIES
from service.jobs.repository import JobRepository
from service.jobs.turns import Turns
from service.metrics import Metrics
from service.payments.models import Payment

log = structlog.get_logger()

AT_ONCE = 20
#: One tick takes no longer, and what it has claimed is nobody else's until then.
TICK_S = 25.0
CLAIM_S = 30.0
#: The pause before a settlement is read back.
AGAIN_S = 5.0
#: Longest pause between two tries.
MAX_AGAIN_S = 300.0
#: After its time a result is followed for this long, in case the chain was only slow to show it.
LATE_S = 3600.0

#: With our hash, in these it was on the chain; what became of the funds then is another matter.
SETTLED = frozenset(
    {"ResultSubmitted", "Disputed", "WithdrawAuthorized", "Withdrawn", "DisputedWithdrawn"}
)
#: A result can be handed in. RefundRequested leads to Disputed, which settles it for us.
OPEN = frozenset({"FundsLocked", "RefundRequested", "Disputed"})
#: The funds went back or elsewhere: no result can change that.
LOST = frozenset(
    {"RefundWithdrawn", "RefundAuthorized", "DisputedWithdrawn", "FundsOrDatumInvalid"}
)


class ResultSubmitter(Protocol):
    async def resolve(self, blockchain_identifier: str) -> Payment | None: ...
    async def submit_result(
        self, blockchain_identifier: str, result_hash: str
    ) -> Payment | None: ...
    async def recover(self, payment: Payment) -> None: ...


class Settler:
    def __init__(
        self, repository: JobRepository, gateway: ResultSubmitter, *, metrics: Metrics
    ) -> None:
        self._outbox = repository.outbox
        self._gateway = gateway
        self._metrics = metrics
        self._turns = Turns()

    async def tick(self) -> bool:
        """Take the results that are due one step further; True when there may be more."""
        due = self._turns.order(await self._outbox.claim(most=AT_ONCE, again_in_s=CLAIM_S))
        more = len(due) == AT_ONCE
        try:
            with deadline.within(TICK_S):
                while due:
                    with self._turns.taken(due[0].job_id):
                        await self._step(due[0])
                    del due[0]
        except TollgateError as error:
            await self._put_off(due, error)
            if not isinstance(error, DeadlineExceeded):
                raise
        self._metrics.census.backlog((await self._outbox.outlook()).waiting)
        return more

    async def _put_off(self, due: list[Settlement], why: TollgateError) -> None:
        """The first has failed, the others were not looked at."""
        if not isinstance(why, CircuitOpen):
            failed = due.pop(0)
            await self._outbox.put_off([failed.job_id], again_in_s=_again_s(failed))
        await self._outbox.put_off([each.job_id for each in due], again_in_s=AGAIN_S)

    async def _step(self, settlement: Settlement) -> None:
        with tracing.step("settlement", settlement.job_id, settlement.origin):
            await self._one(settlement)

    async def _one(self, settlement: Settlement) -> None:
        try:
            await self._settle(settlement)
        except PaymentRejected as error:  # one that is refused must not stop the others
            log.error("settlement_rejected", job_id=str(settlement.job_id), reason=error.message)
            await self._unseen(settlement, for_good=not isinstance(error, PaymentMisconfigured))

    async def _settle(self, settlement: Settlement) -> None:
        """Read first, act second: whether an earlier request arrived is seen, not assumed."""
        payment = await self._gateway.resolve(settlement.blockchain_identifier)
        if payment is None:
            log.warning("settlement_payment_unknown", job_id=str(settlement.job_id))
            await self._unseen(settlement, for_good=True)
            return
        state = payment.on_chain_state
        if state in SETTLED and payment.result_hash == settlement.result_hash:
            await self._end(settlement, "settled", state)
        elif state in LOST or _too_late(settlement):
            await self._end(settlement, "lost", state)
        elif payment.next_action == "WaitingForManualAction":
            await self._recover(settlement, payment)
        elif payment.next_action == "WaitingForExternalAction":
            await self._waiting_for_us(settlement, payment)
        else:  # on its way
            await self._later(settlement, "submitted", state)

    async def _unseen(self, settlement: Settlement, *, for_good: bool) -> None:
        """Its payment was not shown: looked for again, for as long as that can be of use."""
        if for_good and _too_late(settlement):
            await self._end(settlement, "lost", None)
        else:
            await self._later(settlement, "due", None)

    async def _waiting_for_us(self, settlement: Settlement, payment: Payment) -> None:
        state = payment.on_chain_state
        if state in OPEN:
            await self._submit(settlement)
        elif state in SETTLED:  # by another result; only the chain's forgetting it changes that
            log.error("settlement_of_another_result", job_id=str(settlement.job_id))
            await self._end(settlement, "lost", state)
        else:  # rolled back, or a state we do not know: it has to become one that we do
            await self._later(settlement, "due", state)

    async def _submit(self, settlement: Settlement) -> None:
        payment = await self._gateway.submit_result(
            settlement.blockchain_identifier, settlement.result_hash
        )
        if payment is None:  # changed since it was read; the next look tells
            await self._later(settlement, "due", None)
            return
        log.info("result_submitted", job_id=str(settlement.job_id), attempt=settlement.attempts)
        await self._later(settlement, "submitted", payment.on_chain_state)

    async def _recover(self, settlement: Settlement, payment: Payment) -> None:
        told = {"job_id": str(settlement.job_id), "note": payment.error_note}
        if settlement.recoveries >= MOST_RECOVERIES:
            log.error("settlement_needs_a_hand", recoveries=settlement.recoveries, **told)
            await self._later(settlement, "due", payment.on_chain_state, at_least_s=MAX_AGAIN_S)
            return
        log.warning("settlement_recovering", recoveries=settlement.recoveries, **told)
        # Counted first: a recovery that is refused is one of those that were in vain.
        await self._later(settlement, "due", payment.on_chain_state, recoveries=1)
        await self._gateway.recover(payment)

    async def _later(
        self,
        settlement: Settlement,
        state: str,
        on_chain_state: str | None,
        *,
        recoveries: int = 0,
        at_least_s: float = 0.0,
    ) -> None:
        await self._outbox.move(
            settlement.job_id,
            state,
            on_chain_state,
            again_in_s=max(_again_s(settlement), at_least_s),
            recoveries=recoveries,
        )

    async def _end(self, settlement: Settlement, state: str, on_chain_state: str | None) -> None:
        if await self._outbox.move(settlement.job_id, state, on_chain_state, again_in_s=0):
            report = log.info if state == "settled" else log.error
            report(
                f"settlement_{state}", job_id=str(settlement.job_id), on_chain_state=on_chain_state
            )


def _again_s(settlement: Settlement) -> float:
    """The pause until the next look, longer after many."""
    return float(min(MAX_AGAIN_S, AGAIN_S * 2 ** min(settlement.attempts // 6, 10)))


def _too_late(settlement: Settlement) -> bool:
    return time.time() > settlement.submit_result_time_ms / 1000 + LATE_S
