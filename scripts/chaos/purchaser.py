"""Purchasers as sensible clients are: they send the same request again until it is answered.

Each request goes to a replica by chance on a connection of its own, as through a balancer.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from scripts.chaos.audit import FINAL, Told
from scripts.chaos.tally import Tally

#: Above the service's own limit for a request.
TIMEOUT_S = 35.0
#: Where the service does not say when to come back: up to this long, at random.
PAUSE_S = 0.5
#: A drill has no longer patience, whatever the service says.
LONGEST_PAUSE_S = 5.0
#: Held by the service until the status changes.
WAIT_S = 5
#: Everything else is wrong, or our own fault.
PASSING = frozenset({409, 429, 503, 504})


@dataclass(frozen=True, slots=True)
class Offer:
    """What may be bought; ``answer`` is to the question it asks."""

    reference: str
    input_data: Mapping[str, object]
    answer: Mapping[str, object] = field(default_factory=dict)
    free: bool = False


@dataclass(slots=True)
class Purchase:
    """One purchaser's wish, and what came of it so far."""

    offer: Offer
    identifier: str | None
    jobs: set[str] = field(default_factory=set)
    status: str | None = None
    results: set[str] = field(default_factory=set)

    def told(self) -> Told:
        return Told(self.identifier, frozenset(self.jobs), self.status, frozenset(self.results))


class Purchasers:
    """All of them: they share addresses and the tally; ``purchases`` is what they wanted."""

    def __init__(self, urls: Sequence[str], tally: Tally, rng: random.Random) -> None:
        self.purchases: list[Purchase] = []
        self._urls = urls
        self._tally = tally
        self._rng = rng
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Purchasers:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def buy(self, offer: Offer) -> None:
        """One purchase, from start_job to its result."""
        name = secrets.token_hex(8)
        purchase = Purchase(offer, None if offer.free else name)
        self.purchases.append(purchase)
        body: dict[str, object] = {"input_data": offer.input_data}
        if purchase.identifier is not None:
            body["identifier_from_purchaser"] = name
        # Half of the paying ones leave it to their identifier to make the request theirs.
        keyed = offer.free or self._rng.random() < 0.5
        headers = {"Idempotency-Key": name} if keyed else {}
        began_s = time.monotonic()
        # Some ask once more, though they were answered.
        for _ in range(self._rng.choice((1, 1, 1, 2))):
            path = f"/{offer.reference}/start_job"
            started = await self._sure("POST", path, json=body, headers=headers)
            purchase.jobs.add(str(started["id"]))
        self._tally.accepted_after_s.append(time.monotonic() - began_s)
        for job in sorted(purchase.jobs):
            await self._follow(purchase, job)
        self._tally.finished_after_s.append(time.monotonic() - began_s)

    async def look_again(self) -> None:
        """At every accepted job: what was shown once is shown for ever."""
        for purchase in self.purchases:
            for job in purchase.jobs:
                await self._look(purchase, job, {})

    async def _follow(self, purchase: Purchase, job: str) -> None:
        seen: dict[str, str | int] = {}
        while True:
            shown = await self._look(purchase, job, seen)
            seen = {"wait": WAIT_S, "status_id": shown["id"]}
            if shown["status"] in FINAL:
                return
            if shown["status"] == "awaiting_input":
                answer = {
                    "job_id": job,
                    "status_id": shown["id"],
                    "input_data": purchase.offer.answer,
                }
                path = f"/{purchase.offer.reference}/provide_input"
                await self._sure("POST", path, json=answer)

    async def _look(
        self, purchase: Purchase, job: str, query: Mapping[str, str | int]
    ) -> dict[str, Any]:
        path = f"/{purchase.offer.reference}/status"
        shown = await self._sure("GET", path, params={"job_id": job, **query})
        purchase.status = str(shown["status"])
        if shown["status"] == "completed":
            purchase.results.add(str(shown["result"]))
        return shown

    async def _sure(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The answer, however often it has to be asked for."""
        while True:
            pause_s = self._rng.uniform(0, PAUSE_S)
            try:
                status, fields, body = await self._once(method, path, request)
            except (aiohttp.ClientError, TimeoutError) as error:
                self._tally.refusals[type(error).__name__] += 1
            else:
                if status == 200:
                    return body
                code = f"{status} {re.split('[:#]', str(body.get('type')))[-1]}"
                self._tally.refusals[code] += 1
                if status not in PASSING:
                    self._tally.unexpected[f"{method} {path.rpartition('/')[2]}: {code}"] += 1
                pause_s += min(float(fields.get("Retry-After", 0)), LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _once(
        self, method: str, path: str, request: Mapping[str, Any]
    ) -> tuple[int, Mapping[str, str], dict[str, Any]]:
        if self._session is None:
            raise RuntimeError("purchasers buy inside their block")
        url = self._rng.choice(self._urls) + path
        async with self._session.request(method, url, **request) as response:
            return response.status, response.headers, await response.json(content_type=None)
