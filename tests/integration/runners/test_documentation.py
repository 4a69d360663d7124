"""docs/runners.md is true: its documents are read as it says, its runner keeps the contract."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from service.flows.definition import FlowDefinition
from service.runners.answers import BREACH, read_answer
from service.runners.builtin.runner import BUILTINS
from service.runners.http import _document, _idempotency_key
from service.runners.models import Answer, Done, Failed, RunnerSpec, RunRequest
from service.runners.runners import Runners

TEXT = (Path(__file__).parents[3] / "docs/runners.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("block", blocks("json"))
def test_documented_answer_is_read(block: str) -> None:
    answer = read_answer(block.encode())
    assert not (isinstance(answer, Failed) and answer.code == BREACH)


def test_documented_requests_are_what_is_sent() -> None:
    for block in blocks("http"):
        head, _, body = block.partition("\n\n")
        if not body:
            continue
        given: dict[str, Any] = json.loads(body)
        request = RunRequest(
            job_id=given["job_id"],
            flow=flow_of(given["flow"], "http://127.0.0.1/runs"),
            variant=given["variant"],
            inputs=given["input"],
            answers=tuple(Answer(a["request_id"], a["input"]) for a in given["answers"]),
            deadline=datetime.fromisoformat(given["deadline"]),
        )
        key = _idempotency_key(request)
        assert f"Idempotency-Key: {key}" in head
        assert _document(request, key) == given


def test_documented_declaration_is_sound() -> None:
    [block] = blocks("toml")
    read = tomllib.loads(block.replace('"…"', f'"{"ab" * 40}"'))
    [flow] = read["flows"]
    assert FlowDefinition.model_validate(flow).runner.secret_env == "REPORTS_RUNNER_TOKEN"


def test_every_builtin_is_documented() -> None:
    assert set(re.findall(r"^\| `([a-z-]+)` \|", TEXT, re.MULTILINE)) == set(BUILTINS)


async def test_documented_runner_keeps_the_contract() -> None:
    [source] = blocks("python")
    code = source.replace("asyncio.sleep(3)", "asyncio.sleep(0.2)").rsplit("\n", 2)[0]
    names: dict[str, Any] = {}
    exec(compile(code, "docs/runners.md", "exec"), names)  # noqa: S102  # our own documentation
    server = web.AppRunner(names["app"])
    await server.setup()
    runners = Runners(environment={})
    await runners.open()
    try:
        await web.TCPSite(server, "127.0.0.1", 0).start()
        [(_, port)] = server.addresses
        request = RunRequest(
            job_id=uuid4(),
            flow=flow_of("market-report", f"http://127.0.0.1:{port}/runs"),
            variant="standard",
            inputs={"market": "Electric ferries"},
            answers=(),
            deadline=datetime.now(UTC) + timedelta(minutes=10),
        )
        for _ in range(2):
            outcome = await runners.for_flow(request.flow).run(request)
            assert outcome == Done("# Electric ferries\n\nA fine market.")
    finally:
        await runners.close()
        await server.cleanup()


def flow_of(slug: str, target: str) -> Any:
    class Flow:
        runner = RunnerSpec("http", target, poll_s=0.05)

    Flow.slug = slug  # type: ignore[attr-defined]
    return Flow()
