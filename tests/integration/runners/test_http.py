"""The HTTP runner against sound servers on loopback: what is sent, what each answer leads to."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from service.errors import RunnerUnavailable
from service.runners.models import Answer, Done, Failed, NeedsInput
from service.runners.runners import Runners
from tests.support.runners import (
    DONE,
    JOB,
    QUESTION,
    RUNNING,
    SCHEMA,
    Flow,
    Scripted,
    request,
    run,
    serving,
    spec,
)
from tests.support.waiting import until


async def test_start_tells_the_runner_everything_it_needs(runners: Runners) -> None:
    scripted = Scripted([DONE])
    assert await run(runners, scripted, secret_env="RUNNER_TOKEN") == Done("finished")
    [(method, path, headers, body)] = scripted.seen
    assert (method, path) == ("POST", "/runs")
    assert headers["Idempotency-Key"] == str(JOB)
    assert headers["Authorization"] == "Bearer s3cret"
    assert headers["Content-Type"] == "application/json"
    deadline = body.pop("deadline")
    assert body == {
        "job_id": str(JOB),
        "idempotency_key": str(JOB),
        "flow": "echo",
        "variant": "standard",
        "input": {"text": "Zoë"},
        "answers": [],
    }
    assert deadline.endswith("Z")
    assert datetime.fromisoformat(deadline) > datetime.now(UTC)


async def test_every_call_tells_how_long_its_answer_is_waited_for(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [DONE])
    await run(runners, scripted, request_timeout_s=30.0, timeout_s=20.0)
    started_ms, polled_ms = (
        int(headers["X-Request-Timeout-Ms"]) for _, _, headers, _ in scripted.seen
    )
    assert 10_000 < polled_ms <= started_ms <= 20_000
    scripted = Scripted([DONE])
    await run(runners, scripted, request_timeout_s=5.0, timeout_s=20.0)
    assert scripted.seen[0][2]["X-Request-Timeout-Ms"] == "5000"


async def test_no_secret_no_authorization(runners: Runners) -> None:
    scripted = Scripted([DONE])
    await run(runners, scripted)
    assert "Authorization" not in scripted.seen[0][2]


@pytest.mark.parametrize("name", ["ABSENT_TOKEN", "EMPTY_TOKEN", "SPLIT_TOKEN"])
async def test_unusable_secret_waits_for_the_operator(runners: Runners, name: str) -> None:
    with capture_logs() as lines, pytest.raises(RunnerUnavailable, match=name):
        runners.for_flow(Flow(spec(1, secret_env=name)))
    [line] = lines
    assert (line["event"], line["log_level"]) == ("runner_token_missing", "error")
    assert line["variable"] == name


async def test_running_is_polled_until_done(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [RUNNING, RUNNING, DONE])
    assert await run(runners, scripted) == Done("finished")
    assert scripted.methods == ["POST", "GET", "GET", "GET"]
    assert scripted.seen[1][1] == f"/runs/{JOB}"


async def test_question_and_answer(runners: Runners) -> None:
    asked = await run(runners, Scripted([QUESTION]))
    assert isinstance(asked, NeedsInput)
    assert asked.schema.document() == SCHEMA
    scripted = Scripted([DONE])
    answer = Answer(asked.request_id, {"a": "because"})
    assert await run(runners, scripted, answer) == Done("finished")
    _, _, headers, body = scripted.seen[0]
    assert body["answers"] == [{"request_id": "q1", "input": {"a": "because"}}]
    assert headers["Idempotency-Key"] == body["idempotency_key"] == f"{JOB}:1"


async def test_question_that_was_answered_is_not_asked_again(runners: Runners) -> None:
    scripted = Scripted([QUESTION], [QUESTION, DONE])
    assert await run(runners, scripted, Answer("q1", {"a": "x"})) == Done("finished")


async def test_second_question_is_passed_on(runners: Runners) -> None:
    second = {**QUESTION, "request_id": "q2"}
    outcome = await run(runners, Scripted([second]), Answer("q1", {"a": "x"}))
    assert isinstance(outcome, NeedsInput)


async def test_failure_is_passed_on(runners: Runners) -> None:
    error = {"code": "no-data", "message": "Nothing there.", "retryable": False}
    assert await run(runners, Scripted([{"status": "failed", "error": error}])) == Failed(
        "no-data", "Nothing there.", False
    )


@pytest.mark.parametrize("status", [400, 413, 415, 422])
async def test_refusal_fails_for_good(runners: Runners, status: int) -> None:
    outcome = await run(runners, Scripted([status]))
    assert outcome == Failed(
        "runner-refused", f"The flow refused the request (HTTP {status}).", False
    )


async def test_refusal_may_say_why(runners: Runners) -> None:
    error = {"code": "bad", "message": "The text is in no language I know."}

    def refuse() -> web.StreamResponse:
        return web.json_response({"status": "failed", "error": error}, status=422)

    outcome = await run(runners, Scripted([refuse]))
    assert outcome == Failed("runner-refused", "The text is in no language I know.", False)


async def test_deadline_ends_a_run_that_never_ends(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [RUNNING])
    async with serving(scripted):
        of = request(spec(scripted.port), left_s=0.5)
        outcome = await runners.for_flow(of.flow).run(of)
    assert isinstance(outcome, Failed)
    assert (outcome.code, outcome.retryable) == ("run-too-late", False)
    assert len(scripted.seen) > 1


async def test_own_time_limit_ends_a_run_before_the_deadline(runners: Runners) -> None:
    outcome = await run(runners, Scripted([RUNNING], [RUNNING]), timeout_s=0.3)
    assert isinstance(outcome, Failed)


async def test_cancelled_run_stops_asking(runners: Runners) -> None:
    scripted = Scripted([RUNNING], [RUNNING])
    async with serving(scripted):
        of = request(spec(scripted.port))
        task = asyncio.create_task(runners.for_flow(of.flow).run(of))
        await until(lambda: len(scripted.seen) >= 3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        count = len(scripted.seen)
        await asyncio.sleep(0.1)  # time for several questions, were it still asking
        assert len(scripted.seen) <= count + 1  # one may have been on its way


async def test_closed_runners_are_unavailable() -> None:
    closed = Runners(environment={})
    with pytest.raises(RunnerUnavailable):
        closed.for_flow(Flow(spec(1)))
    await closed.close()
