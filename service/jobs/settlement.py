"""Results to the chain: an outbox that is done only when the payment service shows our hash there.

``submit-result`` is a request, not the deed: it is sent, then read back until the payment is in
ResultSubmitted (or Disputed) with our hash. States that wait for a hand are asked to recover.
"""

from __future__ import annotations

import time
from typing import Protocol

import structlog

from service.errors import PaymentRejected
from service.jobs.models import Settlement
from service.jobs.repository import JobRepository
from service.metrics import Metrics
from service.payments.models import Payment

log = structlog.get_logger()

AT_ONCE = 20
#: The lease on one settlement, and the pause before it is read back.
AGAIN_S = 5.0
#: Longest pause between two tries.
MAX_AGAIN_S = 300.0
#: After its time a result is followed for this long, in case the chain was only slow to show it.
LATE_S = 3600.0

SETTLED = frozenset({"ResultSubmitted", "Disputed", "Withdrawn", "WithdrawAuthorized"})
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
        self._repository = repository
        self._gateway = gateway
        self._metrics = metrics

    async def tick(self) -> bool:
        """Take the results that are due one step further; True when there may be more."""
        due = await self._repository.claim_settlements(most=AT_ONCE, again_in_s=AGAIN_S)
        for settlement in due:
            try:
                await self._settle(settlement)
            except PaymentRejected as error:  # one that is refused must not stop the others
                log.error(
                    "settlement_rejected", job_id=str(settlement.job_id), reason=error.message
                )
                await self._later(settlement, "due", None)
        self._metrics.settlement_backlog.set(await self._repository.settlement_backlog())
        return len(due) == AT_ONCE

    async def _settle(self, settlement: Settlement) -> None:
        """Read first, act second: whether an earlier request arrived is seen, not assumed."""
        payment = await self._gateway.resolve(settlement.blockchain_identifier)
        if payment is None:
            log.warning("settlement_payment_unknown", job_id=str(settlement.job_id))
            await self._later(settlement, "due", None)
            return
        state = payment.on_chain_state
        if state in SETTLED and payment.result_hash == settlement.result_hash:
            await self._end(settlement, "settled", state)
        elif state in LOST or _too_late(settlement):
            await self._end(settlement, "lost", state)
        elif payment.next_action == "WaitingForManualAction":
            log.warning(
                "settlement_recovering", job_id=str(settlement.job_id), note=payment.error_note
            )
            await self._recover(settlement, payment)
        elif payment.next_action == "WaitingForExternalAction" and state is not None:
            await self._submit(settlement)
        else:  # on its way
            await self._later(settlement, "submitted", state)

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
        await self._gateway.recover(payment)
        await self._later(settlement, "due", payment.on_chain_state)

    async def _later(self, settlement: Settlement, state: str, on_chain_state: str | None) -> None:
        again_s = min(MAX_AGAIN_S, AGAIN_S * 2 ** min(settlement.attempts // 6, 10))
        await self._repository.move_settlement(
            settlement.job_id, state, on_chain_state, again_in_s=again_s
        )

    async def _end(self, settlement: Settlement, state: str, on_chain_state: str | None) -> None:
        if await self._repository.move_settlement(
            settlement.job_id, state, on_chain_state, again_in_s=0
        ):
            report = log.info if state == "settled" else log.error
            report(
                f"settlement_{state}", job_id=str(settlement.job_id), on_chain_state=on_chain_state
            )


def _too_late(settlement: Settlement) -> bool:
    return time.time() > settlement.submit_result_time_ms / 1000 + LATE_S
