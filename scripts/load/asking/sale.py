"""Purchases as a careful purchaser makes them: start, check, pay, follow, check again."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from scripts.load.asking.alarm import now_s
from scripts.load.asking.connection import Answer, Connection
from scripts.load.asking.crowd import Asked, Crowd
from scripts.load.asking.lanes import Lane, Ticket
from scripts.load.plan import Bought, Finding, Plan
from scripts.load.scenario import Group, Purchase
from scripts.mip004 import input_hash

START, STATUS = "POST /{flow}/start_job", "GET /{flow}/status"
#: Apart: it takes as long as the job does.
WAITED = f"{STATUS}?wait"
FINAL = frozenset({"completed", "failed"})
#: In the order the standard has them.
_TIMES = ("payByTime", "submitResultTime", "unlockTime", "externalDisputeUnlockTime")
#: Held by the service until the status changes, at most.
WAIT_S = 5
#: Where the service does not say when to come back, and the most it may say.
_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0
_WALLET_CONNECTIONS, _WALLET_TIMEOUT_S = 32, 10.0
_OK = 200
_RETRY_AFTER = b"\r\nRetry-After: "

#: Without these a sale can not be paid.
_ORDERED = (
    *("blockchainIdentifier", "agentIdentifier", "identifierFromPurchaser"),
    *("input_hash", "sellerVKey", *_TIMES),
)


@dataclass(slots=True)
class _Wish:
    """One purchase, and what came of it so far."""

    due_s: float
    principal: int
    identifier: str | None
    job: str | None = None
    paid: bool = False
    status: str | None = None
    results: list[str] = field(default_factory=list)
    took_us: int | None = None
    findings: list[Finding] = field(default_factory=list)


class _Unreadable(Exception):
    """An answer of the service that no purchaser can go on with; the message says why."""


class Purchasers(Crowd):
    """Clients of whom each arrival is a purchase of its own."""

    def __init__(self, plan: Plan, group: Group, first: int) -> None:
        super().__init__(plan, group, first)
        assert group.purchase is not None  # noqa: S101 (the caller looked)
        self._purchase: Purchase = group.purchase
        self._start, self._status = self.tally.route(START), self.tally.route(STATUS)
        self._waited = self.tally.route(WAITED)
        self._wishes: list[_Wish] = []
        self._buying: set[asyncio.Task[None]] = set()
        self._wallet: Lane | None = None

    def ask(self, due_s: float, principal: int, _choice: float) -> None:
        # Marketplaces' identifiers are hex; a free run needs none.
        identifier = secrets.token_hex(8) if self._purchase.paid else None
        wish = _Wish(due_s, principal, identifier)
        self._wishes.append(wish)
        task = asyncio.get_running_loop().create_task(self._buy(wish))
        self._buying.add(task)
        task.add_done_callback(self._buying.discard)

    async def end(self) -> None:
        """When all have what they bought, or have lost patience."""
        while self._buying:
            await asyncio.wait(self._buying)

    def bought(self) -> list[Bought]:
        return [
            Bought(
                group=self.group.name,
                identifier=wish.identifier,
                free=wish.identifier is None,
                job=wish.job,
                paid=wish.paid,
                status=wish.status,
                results=sorted(set(wish.results)),
                took_us=wish.took_us,
                findings=wish.findings,
            )
            for wish in self._wishes
        ]

    def sweep(self, at_s: float) -> None:
        super().sweep(at_s)
        if self._wallet:
            self._wallet.sweep(at_s)

    def close(self) -> None:
        super().close()
        if self._wallet:
            self._wallet.close()

    async def _buy(self, wish: _Wish) -> None:
        try:
            await self._sale(wish)
        except _Unreadable as error:
            wish.findings.append(("form", f"job {wish.job}: {error}"))

    async def _sale(self, wish: _Wish) -> None:
        body: dict[str, Any] = {"input_data": self._purchase.input_data}
        # What makes the request this purchaser's own, and no repetition of another's.
        fields = {"Idempotency-Key": wish.identifier or secrets.token_hex(8)}
        if wish.identifier is not None:
            body["identifier_from_purchaser"] = wish.identifier
        path = f"/{self._purchase.flow}/start_job"
        request = self.request("POST", path, fields, wish.principal, json.dumps(body).encode())
        answer = await self._answer(
            _Awaited(self, self._start, request, wish.due_s, wish.principal)
        )
        if answer is None or answer.status != _OK:
            return
        started = _read(answer, ["id"])
        wish.job = str(started["id"])
        wish.findings += faults_of_terms(wish.identifier, self._purchase.input_data, started)
        if not self._purchase.follow:
            return
        if wish.identifier is not None:
            refused = await self._pay(_read(answer, _ORDERED))
            if refused is not None:
                wish.findings.append(("unpaid", f"job {wish.job}: {refused}"))
                return
        wish.paid = True
        await self._follow(wish, wish.job)

    async def _follow(self, wish: _Wish, job: str) -> None:
        until_s = now_s() + self._purchase.patience_s
        seen = ""
        while now_s() < until_s:
            wait_s = min(WAIT_S, ceil(until_s - now_s()))
            wait = f"&wait={wait_s}&status_id={seen}" if seen else ""
            shown = await self._look(wish, job, wait)
            if shown is None:
                continue
            seen, wish.status = str(shown["id"]), str(shown["status"])
            if wish.status in FINAL:
                wish.took_us = int((now_s() - wish.due_s) * 1e6)
                break
        if wish.status == "completed":
            again = await self._look(wish, job, "")
            if again is not None and again["status"] != "completed":
                wish.findings.append(("result", f"job {job}: completed, then {again['status']}"))
            elif len(set(wish.results)) != 1:
                wish.findings.append(("result", f"job {job}: another result when asked again"))

    async def _look(self, wish: _Wish, job: str, wait: str) -> dict[str, Any] | None:
        """None, after a pause, where the answer was a refusal or none."""
        path = f"/{self._purchase.flow}/status?job_id={job}{wait}"
        request = self.request("GET", path, {}, wish.principal)
        route = self._waited if wait else self._status
        answer = await self._answer(_Awaited(self, route, request, now_s(), wish.principal))
        if answer is None or answer.status != _OK:
            await asyncio.sleep(_pause_s(answer))
            return None
        shown = _read(answer, ["id", "status"])
        if shown["status"] == "completed":
            wish.results.append(str(_read(answer, ["result"])["result"]))
        return shown

    async def _answer(self, ticket: _Awaited) -> Answer | None:
        self.send(ticket)
        return await ticket.future

    async def _pay(self, started: dict[str, Any]) -> str | None:
        """Why the wallet did not, if so."""
        names = ("blockchainIdentifier", "agentIdentifier", "identifierFromPurchaser")
        order = {
            "network": self.plan.network,
            "inputHash": started["input_hash"],
            "sellerVkey": started["sellerVKey"],
            **{name: started[name] for name in names},
            **{name: str(started[name]) for name in _TIMES},
        }
        body = json.dumps(order).encode()
        host = (self.plan.payment_url or "").removeprefix("http://")
        head = (
            f"POST /control/wallet/pay HTTP/1.1\r\nHost: {host}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        if self._wallet is None:
            self._wallet = _wallet(host)
        ticket = _Payment(head.encode() + body, now_s(), 0)
        self._wallet.send(ticket)
        answer = await ticket.future
        if answer is None:
            return "the wallet did not answer"
        return None if answer.status == _OK else f"the wallet answered {answer.status}"


class _Awaited(Asked):
    """A counted request somebody waits for."""

    __slots__ = ("future",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

    def answered(self, answer: Answer, at_s: float) -> None:
        super().answered(answer, at_s)
        _tell(self.future, answer)

    def failed(self, why: str, at_s: float) -> None:
        super().failed(why, at_s)
        _tell(self.future, None)


class _Payment(Ticket):
    """One to the wallet: not the service's, so not counted."""

    __slots__ = ("future",)

    def __init__(self, request: bytes, due_s: float, principal: int) -> None:
        super().__init__(request, due_s, principal)
        self.future: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()

    def answered(self, answer: Answer, at_s: float) -> None:
        _tell(self.future, answer)

    def failed(self, why: str, at_s: float) -> None:
        _tell(self.future, None)


def _tell(future: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not future.done():  # who waited may have been told to end
        future.set_result(answer)


def _wallet(host: str) -> Lane:
    name, _, port = host.partition(":")
    loop = asyncio.get_running_loop()

    async def opener(connection: Connection) -> object:
        return await loop.create_connection(lambda: connection, name, int(port))

    return Lane(opener, _WALLET_CONNECTIONS, _WALLET_TIMEOUT_S)


def faults_of_terms(
    identifier: str | None, given: dict[str, Any], started: dict[str, Any]
) -> list[Finding]:
    """What is wrong in the answer to start_job."""
    job, found = started["id"], list[Finding]()
    if started.get("input_hash") != input_hash(identifier, given):
        found.append(("hash", f"job {job}: the input hash is not that of the input"))
    if identifier is None:
        return found
    if started.get("identifierFromPurchaser") != identifier:
        found.append(("hash", f"job {job}: the identifier is another purchaser's"))
    times = [moment for name in _TIMES if isinstance(moment := started.get(name), int)]
    whole = len(times) == len(_TIMES)
    if not whole or times != sorted(times) or times[0] < time.time() * 1000:
        found.append(("time", f"job {job}: {[started.get(name) for name in _TIMES]}"))
    return found


def _read(answer: Answer, names: Iterable[str]) -> dict[str, Any]:
    """What it holds, these fields among it; raises _Unreadable."""
    try:
        document = json.loads(answer.body)
    except ValueError as error:
        raise _Unreadable(f"an answer that is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise _Unreadable("an answer that is not a JSON object")
    lacking = [name for name in names if document.get(name) is None]
    if lacking:
        raise _Unreadable(f"an answer without {', '.join(lacking)}")
    return document


def _pause_s(answer: Answer | None) -> float:
    if answer is None or _RETRY_AFTER not in answer.head:
        return _PAUSE_S
    text = answer.head.partition(_RETRY_AFTER)[2].partition(b"\r\n")[0]
    return min(float(text), _LONGEST_PAUSE_S) if text.isdigit() else _PAUSE_S  # may be a date
