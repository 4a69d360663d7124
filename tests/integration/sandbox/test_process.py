"""The sandbox as people start it: an own process."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from scripts.sandbox.journal import Journal
from tests.support.sandbox import Http, new_payment

Started = tuple[asyncio.subprocess.Process, Http]


@asynccontextmanager
async def started(*arguments: str) -> AsyncIterator[Started]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "scripts.sandbox",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        assert line.startswith("listening on http://127.0.0.1:"), line
        async with aiohttp.ClientSession() as session:
            yield process, Http(session, line.split()[-1], "sandbox")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_ends_it_cleanly_even_while_an_answer_hangs(number: signal.Signals) -> None:
    async with started() as (process, http):
        await http.post("/control/faults", {"kind": "hang", "route": "GET /health"})
        hanging = asyncio.create_task(http.get("/health"))
        while not (await http.get("/control/books"))[1]["calls"]:
            await asyncio.sleep(0.01)
        process.send_signal(number)
        _, errors = await process.communicate()
        assert (process.returncode, errors) == (0, b"")
        with pytest.raises((aiohttp.ClientError, ValueError)):
            await hanging


@pytest.mark.parametrize("end", ["terminate", "kill"])
async def test_payments_survive_a_restart(end: str, tmp_path: Path) -> None:
    state = tmp_path / "deep" / "sandbox.jsonl"
    options = ("--state", str(state), "--pay-after", "off", "--confirm-after", "0")
    stop: Callable[[asyncio.subprocess.Process], None] = lambda p: getattr(p, end)()  # noqa: E731 -- by name
    async with started(*options) as (process, http):
        _, first = await http.post("/payment", new_payment())
        await http.post(f"/control/payments/{first['data']['id']}/lock", {})
        await http.post("/payment", new_payment(metadata="second"))
        _, before = await http.get("/control/books")
        stop(process)
        await process.wait()
    async with started(*options) as (_, http):
        _, after = await http.get("/control/books")
        assert after["payments"] == before["payments"]
        body = {
            "blockchainIdentifier": first["data"]["blockchainIdentifier"],
            "network": "Preprod",
            "submitResultHash": "c0" * 32,
        }
        assert (await http.post("/payment/submit-result", body))[0] == 200
        _, done = await http.get("/control/books")
        assert done["payments"][0]["onChainState"] == "ResultSubmitted"


async def test_torn_last_line_costs_only_itself(tmp_path: Path) -> None:
    state = tmp_path / "sandbox.jsonl"
    async with started("--state", str(state)) as (_, http):
        await http.post("/payment", new_payment())
    with state.open("a") as file:
        file.write('{"id":"c-torn","terms":{"netw')
    async with started("--state", str(state)) as (_, http):
        await http.post("/payment", new_payment())
    journal = Journal(state)
    journal.close()
    assert len(journal.records()) == 2
