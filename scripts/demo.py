"""What ``make demo`` executes: buys runs from a running service and tells each step.

One purchase of every flow, and one more of each free variant; whatever a flow asks is answered.
The hashes of MIP-004 are worked out here anew, not by the service's own code, and compared with
what the service and the payment service say. Ends with 1 at the first step that is not right.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from scripts import running
from scripts.mip004 import input_hash, result_hash

#: From payment to result; the sandbox pays after a second and confirms after another.
JOB_TIMEOUT_S = 120.0
SETTLE_TIMEOUT_S = 60.0
#: Longest the service lets a status request wait for a change.
WAIT_S = 20
#: A refusal is waited out this often before the demonstration gives up.
REFUSALS = 5
#: An answer for each type of field that is not free text.
_VALUES = {"number": 3, "range": 3, "boolean": True, "date": "2025-05-02"}


class DemoFailed(Exception):
    """A step went wrong; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """One bought run, from its input to its result."""

    reference: str
    identifier: str | None
    started: dict[str, Any]
    questions: int
    result: str


class Shop:
    """The service as a purchaser sees it."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self.base = base.rstrip("/")

    async def get(self, path: str, **query: str | int) -> dict[str, Any]:
        return await self._call("GET", path, params=query)

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._call("POST", path, json=body)

    async def _call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        for _ in range(REFUSALS):
            async with self._session.request(method, self.base + path, **options) as response:
                text = await response.text()
                if response.status == 429:
                    wait_s = int(response.headers.get("Retry-After", "1"))
                    say(f"  (over the limit; the service says to wait {wait_s} s)")
                    await asyncio.sleep(wait_s)
                    continue
                if response.status != 200:
                    raise DemoFailed(f"{method} {path} was answered {response.status}: {text}")
                return dict(json.loads(text))
        raise DemoFailed(f"{method} {path} is still refused after {REFUSALS} waits")


def main() -> int:
    parser = argparse.ArgumentParser(description="Buy runs from a running service.")
    parser.add_argument("--url", help="default: what make run has started")
    parser.add_argument("--data", type=Path, default=running.RUN, help="make run's directory")
    arguments = parser.parse_args()
    here = running.read(arguments.data)
    url = arguments.url or _default_url(here)
    try:
        asyncio.run(_demonstrate(url, here if here and here.url == url else None))
    except aiohttp.ClientConnectorError:
        print(f"make demo: nothing answers at {url}; start it with: make run", file=sys.stderr)
        return 1
    except (DemoFailed, aiohttp.ClientError, TimeoutError) as error:
        print(f"make demo: {str(error) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


async def _demonstrate(url: str, here: running.Running | None) -> None:
    timeout = aiohttp.ClientTimeout(total=40)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        shop = Shop(session, url)
        flows = (await shop.get("/flows"))["flows"]
        say(f"The shop at {shop.base} offers:")
        for flow in flows:
            variants = ", ".join(_price(variant) for variant in flow["variants"])
            say(f"  {flow['id']}: {flow['name']} ({variants})")
        bought = [
            await _buy(shop, flow, variant)
            for flow in flows
            for variant in flow["variants"]
            if variant["free"] or variant["name"] == flow["default_variant"]
        ]
        _expect(any(not purchase.identifier for purchase in bought), "a free flow was on offer")
        _expect(any(purchase.identifier for purchase in bought), "a paid flow was on offer")
        _expect(any(purchase.questions for purchase in bought), "a flow asked a question")
        if here is None or here.payment_url is None:
            say("\nThe payment service is not our sandbox: what it was told is not looked at.")
        else:
            for purchase in bought:
                if purchase.identifier:
                    await _settled(session, here, purchase)
        say(f"\nAll {len(bought)} purchases are complete.")


async def _buy(shop: Shop, flow: dict[str, Any], variant: dict[str, Any]) -> Purchase:
    default = variant["name"] == flow["default_variant"]
    reference = flow["id"] if default else f"{flow['id']}+{variant['name']}"
    say(f"\nBuying {reference} ({_price(variant)})")
    available = await shop.get(f"/{reference}/availability")
    _expect(available["status"] == "available", "it is available")
    await shop.get(f"/{reference}/input_schema")
    given = (await shop.get(f"/{reference}/demo"))["input"]
    say(f"  input: {_short(json.dumps(given, ensure_ascii=False))}")
    # Fresh for each purchase: the same again would be the same purchase.
    identifier = None if variant["free"] else secrets.token_hex(8)
    body = {"input_data": given} | ({"identifier_from_purchaser": identifier} if identifier else {})
    started = await shop.post(f"/{reference}/start_job", body)
    say(f"  job {started['id']}")
    _expect(started["input_hash"] == input_hash(identifier, given), "the input hash is right")
    if identifier:
        _expect_payment(started, identifier)
    questions, result = await _follow(shop, reference, started["id"], identifier)
    return Purchase(reference, identifier, started, questions, result)


def _expect_payment(started: dict[str, Any], identifier: str) -> None:
    times = ("payByTime", "submitResultTime", "unlockTime", "externalDisputeUnlockTime")
    texts = ("blockchainIdentifier", "agentIdentifier", "sellerVKey")
    _expect(
        all(isinstance(started.get(name), int) for name in times)
        and all(started.get(name) for name in texts)
        and started.get("identifierFromPurchaser") == identifier,
        "the answer holds all that is needed to pay",
    )


async def _follow(shop: Shop, reference: str, job: str, identifier: str | None) -> tuple[int, str]:
    """Until the job is complete: how many questions it asked, and its result."""
    questions, seen = 0, ""
    async with asyncio.timeout(JOB_TIMEOUT_S):
        while True:
            waiting: dict[str, Any] = {"wait": WAIT_S, "status_id": seen} if seen else {}
            status = await shop.get(f"/{reference}/status", job_id=job, **waiting)
            if status["id"] != seen:
                say(f"  {status['status']}")
            seen = status["id"]
            if status["status"] == "awaiting_input" and status.get("input_schema"):
                questions += 1
                await _answer(shop, reference, status, identifier)
            elif status["status"] == "completed":
                say(f"  result: {_short(status['result'])}")
                again = await shop.get(f"/{reference}/status", job_id=job)
                _expect(again["result"] == status["result"], "the result reads the same again")
                return questions, status["result"]
            elif status["status"] == "failed":
                raise DemoFailed(f"the job failed: {status.get('message')}")


async def _answer(
    shop: Shop, reference: str, status: dict[str, Any], identifier: str | None
) -> None:
    fields = _fields(status["input_schema"])
    for field in fields:
        say(f"  it asks: {field['name']}")
    given = {field["id"]: _value(field) for field in fields if _required(field)}
    say(f"  answering {json.dumps(given, ensure_ascii=False)}")
    receipt = await shop.post(
        f"/{reference}/provide_input",
        {"job_id": status["job_id"], "status_id": status["id"], "input_data": given},
    )
    _expect(receipt["input_hash"] == input_hash(identifier, given), "the answer's hash is right")


def _fields(schema: dict[str, Any]) -> list[dict[str, Any]]:
    if "input_data" in schema:
        return list(schema["input_data"])
    return [field for group in schema["input_groups"] for field in group["input_data"]]


def _required(field: dict[str, Any]) -> bool:
    return not any(
        rule["validation"] == "optional" and str(rule.get("value")).lower() != "false"
        for rule in field.get("validations") or ()
    )


def _value(field: dict[str, Any]) -> object:
    """Something the question's field takes."""
    choices = (field.get("data") or {}).get("values")
    if choices:
        return choices[0]
    return _VALUES.get(field["type"], "4711")


async def _settled(
    session: aiohttp.ClientSession, here: running.Running, purchase: Purchase
) -> None:
    """The hash of the result gets on record with the payment service."""
    say(f"\nSettling {purchase.reference}: asking the payment service")
    wanted = result_hash(purchase.identifier, purchase.result)
    async with asyncio.timeout(SETTLE_TIMEOUT_S):
        while True:
            async with session.post(
                f"{here.payment_url}/api/v1/payment/resolve-blockchain-identifier",
                headers={"token": here.payment_api_key or ""},
                json={
                    "network": here.payment_network,
                    "blockchainIdentifier": purchase.started["blockchainIdentifier"],
                },
            ) as response:
                payment = (await response.json())["data"]
            if payment["onChainState"] == "ResultSubmitted":
                break
            await asyncio.sleep(0.5)
    _expect(payment["resultHash"] == wanted, "it holds the hash of the very result we were given")
    _expect(
        payment["inputHash"] == purchase.started["input_hash"], "and the hash of the input we gave"
    )


def _price(variant: dict[str, Any]) -> str:
    if variant["free"]:
        return f"{variant['name']}: free"
    funds = " + ".join(
        f"{f['amount']} {f['unit'] or 'lovelace'}" for f in variant["requested_funds"]
    )
    return f"{variant['name']}: {funds or 'the price in its registry entry'}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:157] + "..."


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise DemoFailed(f"expected that {what}, and it is not so")
    say(f"  ok: {what}")


def _default_url(here: running.Running | None) -> str:
    if port := os.environ.get("TOLLGATE_SERVER__PORT"):
        return f"http://127.0.0.1:{port}"
    return here.url if here else "http://127.0.0.1:8000"


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
