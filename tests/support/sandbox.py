"""The payment sandbox on a real socket inside the test's own loop, its state at hand."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from scripts.sandbox.app import create_app
from scripts.sandbox.faults import Fault
from scripts.sandbox.keys import SANDBOX, Options, Sandbox
from scripts.sandbox.records import Record

AGENT = "ab" * 28 + "6167656e74"
PURCHASER = "0123456789abcdef"
INPUT_HASH = "5f" * 32
RESULT_HASH = "c0" * 32


@dataclass(frozen=True, slots=True)
class RunningSandbox:
    url: str
    sandbox: Sandbox

    def fault(self, kind: str, route: str = "*", **more: Any) -> None:
        self.sandbox.faults.add(Fault(kind=kind, route=route, **more))  # type: ignore[arg-type]

    def heal(self) -> None:
        self.sandbox.faults.clear()

    def calls(self, route: str) -> int:
        return self.sandbox.calls[route]

    @property
    def records(self) -> list[Record]:
        self.sandbox.ledger.settle()
        return list(self.sandbox.ledger.oldest())

    def happen(self, event: Callable[[Record, int], None], record: Record) -> None:
        ledger = self.sandbox.ledger
        ledger.change(record, lambda it: event(it, ledger.now_ms()))


@asynccontextmanager
async def running_sandbox(port: int = 0, **options: Any) -> AsyncIterator[RunningSandbox]:
    """Nobody pays by itself unless ``pay_after_s`` is given."""
    app = create_app(Options(**{"pay_after_s": None, "confirm_after_s": 0.0, **options}))
    async with served(app, port) as url:
        yield RunningSandbox(url, app[SANDBOX])


@asynccontextmanager
async def served(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """Any application on a loopback port; its address."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


def free_port() -> int:
    """A port nobody listens on (until somebody takes it)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Http:
    """A client as plain as curl, for what the sandbox itself is to answer."""

    def __init__(self, session: aiohttp.ClientSession, url: str, key: str | None) -> None:
        self._session = session
        self._url = url
        self.key = key

    async def get(self, path: str, **query: str) -> tuple[int, Any]:
        return await self._exchange("GET", path, params=query)

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        return await self._exchange("POST", path, json=body)

    async def _exchange(self, method: str, path: str, **request: Any) -> tuple[int, Any]:
        headers = {} if self.key is None else {"token": self.key}
        url = self._url + (path if path.startswith("/control") else "/api/v1" + path)
        async with self._session.request(method, url, headers=headers, **request) as response:
            return response.status, await response.json()


def new_payment(**changes: Any) -> dict[str, Any]:
    """A body POST /payment takes; a change to None leaves the key out."""
    now = datetime.now(UTC)
    body = {
        "inputHash": INPUT_HASH,
        "network": "Preprod",
        "agentIdentifier": AGENT,
        "identifierFromPurchaser": PURCHASER,
        "payByTime": spelt(now + timedelta(minutes=20)),
        "submitResultTime": spelt(now + timedelta(hours=1)),
        "metadata": "a job",
    } | changes
    return {key: value for key, value in body.items() if value is not None}


def spelt(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"
