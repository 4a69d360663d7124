"""A whole sale and a whole set of failures, with marked secrets: no line of any process has one.

Every line is JSON, whatever was put into paths, header fields and answers of others.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import redis

from scripts.kept import Kept, Order
from scripts.loopback import LOOPBACK, free_port
from scripts.postgres import EmbeddedPostgres
from scripts.running import ROOT
from scripts.sandbox.control import ACTIONS
from scripts.valkey import EmbeddedValkey
from tests.support import commands
from tests.support.runners import Scripted, serving
from tests.support.sandbox import RunningSandbox, running_sandbox
from tests.support.servers import execute, scratch_directory
from tests.support.waiting import until

#: What must stay inside, by what it is. Each is found again in no line, whole or in part.
SECRETS = {
    "payment key": "canaryPaymentKey0",
    "client key": "canaryClientKey0",
    "admin token": "canaryAdminToken0",
    "key secret": "canaryKeySecret0of16",
    "database password": "canaryDatabase0",
    "redis password": "canaryRedis0",
    "runner token": "canaryRunnerToken0",
    "input": "canaryInput0",
    "answer": "canaryAnswer0",
    "result": "canaryResult0",
    "idempotency key": "canaryIdempotency0",
    "query": "canaryQuery0",
}
#: Without these the test has not seen what it is about.
SEEN = {"request", "run_ended", "payment_attempt_failed", "slow_statement", "store_away"}
IDENTIFIER = "a1b2c3d4e5f60718"
BREAKS = '\r\n{"event":"forged"}\r\n'
QUESTION = {"input_data": [{"id": "more", "type": "text", "name": "More"}]}


@dataclass
class Shop:
    """One real service process, what it calls, and what has been seen of it."""

    url: str
    internal_url: str
    log: Path
    sandbox: RunningSandbox
    runner: Scripted
    session: aiohttp.ClientSession
    statuses: list[int] = field(default_factory=list)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        fields = {"X-API-Key": SECRETS["client key"], **headers}
        async with self.session.request(
            method, self.url + path, json=body, headers=fields
        ) as answer:
            self.statuses.append(answer.status)
            return await answer.json(content_type=None)

    async def buy(self, **changes: Any) -> Any:
        body = {
            "identifier_from_purchaser": IDENTIFIER,
            "input_data": {"text": SECRETS["input"]},
            **changes,
        }
        more = {"Idempotency-Key": SECRETS["idempotency key"] + str(len(self.statuses))}
        return await self.ask("POST", "/secret-flow/start_job", body, **more)

    async def status(self, job_id: str, until: str) -> Any:
        async with asyncio.timeout(20):
            while True:
                seen = await self.ask("GET", f"/secret-flow/status?job_id={job_id}")
                if seen.get("status") == until:
                    return seen
                await asyncio.sleep(0.05)

    async def raw(self, request: bytes) -> None:
        """Bytes as no client library would send them."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        async with asyncio.timeout(10):
            await reader.read(200)
        writer.close()


@asynccontextmanager
async def shop(home: Path, database_url: str, redis_url: str) -> AsyncIterator[Shop]:
    runner = Scripted()
    async with (
        running_sandbox(api_key=SECRETS["payment key"], confirm_after_s=0.02) as sandbox,
        serving(runner),
        aiohttp.ClientSession() as session,
    ):
        port, internal = free_port(), free_port()
        settings = {
            "TOLLGATE_DATABASE__URL": database_url,
            "TOLLGATE_DATABASE__POOL_MIN": "1",
            "TOLLGATE_DATABASE__POOL_MAX": "4",
            "TOLLGATE_DATABASE__SLOW_QUERY": "0.000001",
            "TOLLGATE_REDIS__URL": redis_url,
            "TOLLGATE_PAYMENT__URL": sandbox.url,
            "TOLLGATE_PAYMENT__API_KEY": SECRETS["payment key"],
            "TOLLGATE_PAYMENT__ATTEMPTS": "1",
            "TOLLGATE_PAYMENT__POLL_INTERVAL": "0.2",
            "TOLLGATE_JOBS__POLL_INTERVAL": "0.1",
            "TOLLGATE_ADMIN__TOKEN": SECRETS["admin token"],
            "TOLLGATE_ADMIN__KEY_SECRET": SECRETS["key secret"],
            "TOLLGATE_SERVER__WORKERS": "1",
            "TOLLGATE_SERVER__REQUEST_TIMEOUT": "5",
            "TOLLGATE_PAYMENT__CALL_TIMEOUT": "4",
            "TOLLGATE_PAYMENT__ATTEMPT_TIMEOUT": "3",
            "TOLLGATE_SERVER__SHUTDOWN_TIMEOUT": "2",
            "TOLLGATE_SERVER__DRAIN_DELAY": "0",
            "TOLLGATE_SERVER__PORT": str(port),
            "TOLLGATE_SERVER__INTERNAL_PORT": str(internal),
            "TOLLGATE_LOGGING__LEVEL": "debug",
            "RUNNER_TOKEN": SECRETS["runner token"],
        }
        await asyncio.to_thread(_prepare, home, settings, runner.port)
        log = home / "service.log"
        program = Kept(
            Order(
                command=(sys.executable, "-m", "service", "serve"),
                directory=ROOT,
                environment={**os.environ, **settings},
                stop_signals=(signal.SIGTERM,),
                grace_s=20.0,
                log=log,
            )
        )
        made = Shop(
            f"http://{LOOPBACK}:{port}",
            f"http://{LOOPBACK}:{internal}",
            log,
            sandbox,
            runner,
            session,
        )
        try:
            await _ready(made, program)
            yield made
        finally:
            await asyncio.to_thread(program.stop)


def _prepare(home: Path, settings: dict[str, str], runner_port: int) -> None:
    document = {
        "slug": "secret-flow",
        "name": "A flow",
        "version": "1",
        "input_schema": {"input_data": [{"id": "text", "type": "text", "name": "Text"}]},
        "variants": {"standard": {"agent_identifier": "ab" * 28 + "01"}, "free": {"free": True}},
        "default_variant": "standard",
        "runner": {
            "kind": "http",
            "target": f"http://{LOOPBACK}:{runner_port}/runs",
            "poll_interval": 0.1,
            "secret_env": "RUNNER_TOKEN",
        },
        "demo": {"input": {"text": "a"}, "output": "b"},
    }
    file = home / "flow.json"
    file.write_text(json.dumps({"flows": [document]}))
    for arguments in (["migrate"], ["flows", "import", str(file)]):
        done = commands.tollgate(*arguments, environment=settings)
        assert done.returncode == 0, done.stderr
        for secret in SECRETS.values():
            assert secret not in done.stdout + done.stderr


async def _ready(made: Shop, program: Kept) -> None:
    async with asyncio.timeout(40):
        while True:
            assert program.alive, made.log.read_text()[-4000:]
            try:
                async with made.session.get(made.internal_url + "/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)


async def sell(made: Shop) -> None:
    """From start to the result on its way to the chain, with a question in between."""
    question = {"status": "needs_input", "request_id": "q1", "input_schema": QUESTION}
    done = {"status": "done", "result": SECRETS["result"]}
    made.runner.starts = [question, done]
    job_id = (await made.buy())["id"]
    record = made.sandbox.sandbox.ledger.get(job_id)
    assert record is not None
    made.sandbox.happen(ACTIONS["lock"], record)
    asked = await made.status(job_id, "awaiting_input")
    answer = {
        "job_id": job_id,
        "status_id": asked["id"],
        "input_data": {"more": SECRETS["answer"]},
    }
    await made.ask("POST", "/secret-flow/provide_input", answer)
    finished = await made.status(job_id, "completed")
    assert finished["result"] == SECRETS["result"]
    await until(lambda: '"event":"result_submitted"' in made.log.read_text())


async def fail(made: Shop) -> None:
    """What clients, runners and the payment service can do wrong."""
    secret = SECRETS["input"]
    await made.buy(input_data={"text": {"nested": secret}})
    await made.buy(input_data={secret: secret})
    await made.buy(identifier_from_purchaser=secret)
    await made.ask("POST", "/secret-flow/start_job", secret)
    await made.ask("GET", f"/secret-flow/status?job_id={SECRETS['query']}&key={SECRETS['query']}")
    await made.ask("GET", "/flows", Authorization=f"Bearer {SECRETS['client key']}")
    async with made.session.get(
        made.internal_url + "/ops", headers={"Authorization": f"Bearer {SECRETS['admin token']}"}
    ) as answer:
        made.statuses.append(answer.status)
    for kind in ("status", "bad-json"):
        made.sandbox.heal()
        made.sandbox.fault(kind, "POST /payment", **({"status": 500} if kind == "status" else {}))
        await made.buy(input_data={"text": secret + kind})
    made.sandbox.heal()
    refusal = {"status": "failed", "error": {
        "code": "bad", "message": f"no{BREAKS}{secret}", "retryable": False}}  # fmt: skip
    made.runner.starts = [refusal]
    for _ in range(2):
        free = {"input_data": {"text": secret}}
        job = await made.ask("POST", "/secret-flow+free/start_job", free)
        await made.status(job["id"], "failed")
        made.runner.starts = [{"status": "done", "result": [secret]}]


async def forge(made: Shop) -> None:
    """Line breaks where a line of the log may take them up."""
    quoted = "%0d%0a%7B%22event%22:%22forged%22%7D%0a"
    await made.ask("GET", f"/{quoted}/availability")
    await made.ask("GET", f"/flows/{quoted}")
    await made.ask("GET", "/flows", **{"X-Request-Id": 'x"} {"event":"forged"}'})
    await made.raw(b"GET /flows HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\x0b\x0c\x85b\r\n\r\n")
    await made.raw(b'GET /a\x00b\r{"event":"forged"} HTTP/1.1\r\nHost: x\r\n\r\n')
    await made.raw(b"G\xe2\x80\xa8T /flows HTTP/1.1\r\nHost: x\r\n\r\n")
    await made.raw(b"GET /\xe2\x80\xa8forged HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_no_line_of_any_process_has_a_secret_or_is_forged(
    private_postgres: Callable[..., EmbeddedPostgres],
    private_valkey: Callable[[], EmbeddedValkey],
) -> None:
    postgres, valkey = private_postgres(), private_valkey()
    parts = urlsplit(postgres.url)
    password = SECRETS["database password"]
    await asyncio.to_thread(
        execute, postgres.url, f"ALTER ROLE {parts.username} PASSWORD '{password}'"
    )
    address = f"{parts.username}:{password}@{parts.hostname}:{parts.port}"
    database_url = parts._replace(netloc=address).geturl()
    with closing(redis.Redis.from_url(valkey.url)) as client:
        client.config_set("requirepass", SECRETS["redis password"])
    redis_url = valkey.url.replace("redis://", f"redis://:{SECRETS['redis password']}@")
    with scratch_directory() as home:
        async with shop(home, database_url, redis_url) as made:
            await sell(made)
            await fail(made)
            await forge(made)
            valkey.stop()
            await made.buy()
            postgres.stop()
            await made.buy()
            await asyncio.sleep(1.0)  # for the background tasks to meet it, too
        lines = made.log.read_text().splitlines()
    assert {200, 400, 404, 503} <= set(made.statuses)
    # The runner was told who asked; the token is for it alone.
    assert made.runner.seen
    for _, _, fields, _ in made.runner.seen:
        assert "x-request-id" in map(str.lower, fields)
        assert fields["Authorization"] == f"Bearer {SECRETS['runner token']}"
    entries = [json.loads(line) for line in lines]
    events = {entry["event"] for entry in entries}
    assert events >= SEEN
    assert "forged" not in events
    for line in lines:
        assert line.isprintable()
        for what, secret in SECRETS.items():
            assert secret not in line, f"{what} in: {line}"
    for entry in entries:
        # A step of a job names it, and the request behind it.
        if entry["event"] in ("run_started", "run_ended", "result_submitted"):
            assert entry["job_id"]
            assert entry["request_id"]
        if entry["event"] == "request":
            assert entry["client"] == LOOPBACK
        # Nothing above is a bug of ours.
        assert "exception" not in entry, entry
