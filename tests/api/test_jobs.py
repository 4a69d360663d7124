"""The sale over HTTP: start, pay, run, ask, answer, read."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from service.mip.hashing import input_hash, schema_hashes
from tests.support.gate import IDENTIFIER, TEXT, Gate, OpenGate, problem
from tests.support.servers import migrate
from tests.support.waiting import until

LETTER = {
    "purpose": "cancellation",
    "details": "I have moved.",
    "sender": "Ada Moll",
    "recipient": "Fitness Nord",
}


class TestStartPaid:
    async def test_answer_has_every_term_of_the_payment(self, gate: Gate) -> None:
        started = await gate.buy(input_data={"text": TEXT})
        assert started["id"] == started["job_id"]
        record = gate.sandbox.ledger.get(started["id"])
        assert record is not None
        assert started["blockchainIdentifier"] == record.blockchain_identifier
        times = ["payByTime", "submitResultTime", "unlockTime", "externalDisputeUnlockTime"]
        now_ms = time.time() * 1000
        for name in times:
            assert isinstance(started[name], int)
            assert now_ms < started[name] < now_ms + 10 * 24 * 3600 * 1000
        assert [started[name] for name in times] == sorted(started[name] for name in times)
        assert started["agentIdentifier"].startswith("e27d3c8b")
        assert started["sellerVKey"]
        assert started["identifierFromPurchaser"] == IDENTIFIER
        expected = input_hash(IDENTIFIER, {"text": TEXT})
        assert started["input_hash"] == started["inputHash"] == expected

    async def test_paid_job_runs_and_its_result_never_changes(self, gate: Gate) -> None:
        started = await gate.buy()
        first = await gate.status("text-summary", started["id"])
        assert first["status"] == "awaiting_payment"
        assert "result" not in first
        gate.pay(started["id"])
        done = await gate.status("text-summary", started["id"], until="completed")
        assert isinstance(done["result"], str)
        assert done["result"]
        assert await gate.status("text-summary", started["id"]) == done

    @pytest.mark.parametrize(
        "identifier", [None, "", "xyz", "a1b2c3d4e5f607181", "a1b2", "ab" * 14, "ab " * 7]
    )
    async def test_paid_job_needs_a_proper_identifier(
        self, gate: Gate, identifier: str | None
    ) -> None:
        sent = {"input_data": {"text": TEXT}, "identifier_from_purchaser": identifier}
        body = await problem(await gate.post("/text-summary/start_job", sent), 400, "invalid-input")
        assert body["errors"][0]["pointer"] == "/identifier_from_purchaser"
        assert gate.payment_calls() == 0

    async def test_every_fault_of_the_input_is_named(self, gate: Gate) -> None:
        sent = {
            "identifier_from_purchaser": IDENTIFIER,
            "input_data": {"sentences": 99, "style": "verse"},
        }
        body = await problem(await gate.post("/text-summary/start_job", sent), 400, "invalid-input")
        pointers = {fault["pointer"] for fault in body["errors"]}
        assert pointers == {"/input_data/text", "/input_data/sentences", "/input_data/style"}
        assert gate.payment_calls() == 0

    async def test_names_of_older_clients_are_taken(self, gate: Gate) -> None:
        sent = {"identifierFromPurchaser": IDENTIFIER, "inputData": {"text": TEXT}, "extra": 1}
        answer = await gate.post("/text-summary/start_job", sent)
        assert answer.status == 200

    async def test_root_takes_the_flow_from_body_or_query(self, gate: Gate) -> None:
        sent = {"identifier_from_purchaser": IDENTIFIER, "input_data": {"text": TEXT}}
        by_body = await gate.post("/start_job", {**sent, "flow": "text-summary"})
        by_query = await gate.post("/start_job?flow=text-summary", sent)
        assert by_body.status == by_query.status == 200
        # The same purchase, however the flow was named.
        assert (await by_body.json())["id"] == (await by_query.json())["id"]
        await problem(await gate.post("/start_job", sent), 400, "invalid-input")

    async def test_input_is_hashed_as_it_was_sent(self, gate: Gate) -> None:
        sent = {"text": TEXT, "sentences": 2.0, "style": [1], "unknown": {"ü": [None]}}
        started = await gate.buy(input_data=sent)
        assert started["input_hash"] == input_hash(IDENTIFIER, sent)


class TestStartFree:
    async def test_free_job_needs_only_input_and_runs_at_once(self, gate: Gate) -> None:
        answer = await gate.post("/text-summary+free/start_job", {"input_data": {"text": TEXT}})
        assert answer.status == 200
        started = await answer.json()
        assert started["id"] == started["job_id"]
        assert started["status"] == "running"
        assert started["input_hash"] == input_hash("", {"text": TEXT})
        assert "blockchainIdentifier" not in started
        done = await gate.status("text-summary", started["id"], until="completed")
        assert done["result"]
        assert gate.payment_calls() == 0


class TestIdempotency:
    async def test_repeated_purchase_is_the_same_job(self, gate: Gate) -> None:
        first = await gate.post("/text-summary/start_job", purchase())
        again = await gate.post("/text-summary/start_job", purchase())
        assert "Idempotent-Replayed" not in first.headers
        assert again.headers["Idempotent-Replayed"] == "true"
        assert await again.json() == await first.json()
        assert gate.payment_calls() == 1

    async def test_key_replays_its_job_quoted_or_bare(self, gate: Gate) -> None:
        ids = set()
        for key in ("abc", '"abc"'):
            answer = await gate.post(
                "/text-summary+free/start_job",
                {"input_data": {"text": TEXT}},
                headers={"Idempotency-Key": key},
            )
            ids.add((await answer.json())["id"])
        assert len(ids) == 1

    async def test_key_with_another_request_is_refused(self, gate: Gate) -> None:
        headers = {"Idempotency-Key": "abc"}
        await gate.post("/text-summary/start_job", purchase(), headers=headers)
        other = purchase(text=TEXT + " More.")
        answer = await gate.post("/text-summary/start_job", other, headers=headers)
        await problem(answer, 422, "idempotency-key-reused")

    async def test_key_of_a_request_at_work_is_a_conflict(self, gate: Gate) -> None:
        gate.fault("POST /payment", "latency", seconds=1.5, times=1)
        headers = {"Idempotency-Key": "abc"}
        first = asyncio.create_task(
            gate.post("/text-summary/start_job", purchase(), headers=headers)
        )
        await until(gate.payment_calls)
        second = await gate.post("/text-summary/start_job", purchase(), headers=headers)
        await problem(second, 409, "request-in-progress")
        assert int(second.headers["Retry-After"]) >= 1
        assert (await first).status == 200

    @pytest.mark.parametrize("key", ['"open', "x" * 256, '""'])
    async def test_unusable_key_is_refused(self, gate: Gate, key: str) -> None:
        answer = await gate.post(
            "/text-summary/start_job", purchase(), headers={"Idempotency-Key": key}
        )
        body = await problem(answer, 400, "invalid-input")
        assert body["errors"][0]["pointer"] == "Idempotency-Key"


class TestStatus:
    async def test_status_id_stays_while_the_status_does(self, gate: Gate) -> None:
        started = await gate.buy()
        seen = [await gate.status("text-summary", started["id"]) for _ in range(3)]
        assert seen[0] == seen[1] == seen[2]
        gate.pay(started["id"])
        done = await gate.status("text-summary", started["id"], until="completed")
        assert done["id"] != seen[0]["id"]
        assert done["job_id"] == started["id"]

    async def test_known_status_is_not_sent_again(self, gate: Gate) -> None:
        path = f"/text-summary/status?job_id={(await gate.buy())['id']}"
        tag = (await gate.get(path)).headers["ETag"]
        again = await gate.get(path, headers={"If-None-Match": tag})
        assert again.status == 304

    @pytest.mark.parametrize(
        "job", ["1", "x", "%00", "%ed%a0%80", "0b8a4c5e6f0f4c479f0c0a7c1d2e3f40", "a" * 300,
                "0b8a4c5e-6f0f-4c47-9f0c-0a7c1d2e3f40"]
    )  # fmt: skip
    async def test_job_that_is_none_is_unknown(self, gate: Gate, job: str) -> None:
        await problem(await gate.get(f"/text-summary/status?job_id={job}"), 404, "unknown-job")

    async def test_missing_job_id_is_invalid(self, gate: Gate) -> None:
        body = await problem(await gate.get("/text-summary/status"), 400, "invalid-input")
        assert body["errors"][0]["pointer"] == "job_id"

    async def test_job_of_another_flow_is_unknown(self, gate: Gate) -> None:
        job_id = (await gate.buy())["id"]
        answer = await gate.get(f"/csv-profile/status?job_id={job_id}")
        await problem(answer, 404, "unknown-job")
        assert (await gate.get(f"/status?flow=text-summary&job_id={job_id}")).status == 200

    @pytest.mark.parametrize("wait", ["-1", "26", "x", "nan", "%00"])
    async def test_bad_waiting_time_is_refused(self, gate: Gate, wait: str) -> None:
        job_id = (await gate.buy())["id"]
        answer = await gate.get(f"/text-summary/status?job_id={job_id}&wait={wait}")
        await problem(answer, 400, "invalid-input")


class TestProvideInput:
    async def test_question_is_shown_and_answered_by_status_id(self, gate: Gate) -> None:
        asked = await ask(gate)
        assert asked["input_schema"]
        answered = {"job_id": asked["job_id"], "status_id": asked["id"], "input_data": ANSWER}
        answer = await gate.post("/tailored-letter/provide_input", answered)
        assert answer.status == 200, await answer.text()
        assert await answer.json() == {"input_hash": input_hash("", ANSWER), "signature": ""}
        done = await gate.status("tailored-letter", asked["job_id"], until="completed")
        assert "4711" in done["result"]
        assert "input_schema" not in done
        again = await gate.post("/tailored-letter/provide_input", answered)
        assert again.status == 200
        other = {**answered, "input_data": {"reference": "another"}}
        await problem(
            await gate.post("/tailored-letter/provide_input", other), 400, "not-awaiting-input"
        )

    @pytest.mark.parametrize("form", [0, 1])
    async def test_question_is_named_by_either_schema_hash(self, gate: Gate, form: int) -> None:
        asked = await ask(gate)
        answer = await gate.post(
            "/provide_input?flow=tailored-letter",
            {
                "job_id": asked["job_id"],
                "input_schema_hash": sorted(schema_hashes(asked["input_schema"]))[form],
                "input_data": ANSWER,
            },
        )
        assert answer.status == 200, await answer.text()

    async def test_stale_status_id_is_refused(self, gate: Gate) -> None:
        asked = await ask(gate)
        stale = {"job_id": asked["job_id"], "status_id": asked["job_id"], "input_data": ANSWER}
        await problem(
            await gate.post("/tailored-letter/provide_input", stale), 400, "not-awaiting-input"
        )

    async def test_job_that_asks_nothing_takes_no_input(self, gate: Gate) -> None:
        started = await gate.buy()
        status = await gate.status("text-summary", started["id"])
        sent = {"job_id": started["id"], "status_id": status["id"], "input_data": {}}
        await problem(
            await gate.post("/text-summary/provide_input", sent), 400, "not-awaiting-input"
        )

    async def test_faulty_answer_is_named_and_may_be_mended(self, gate: Gate) -> None:
        asked = await ask(gate)
        sent = {"job_id": asked["job_id"], "status_id": asked["id"], "input_data": {}}
        body = await problem(
            await gate.post("/tailored-letter/provide_input", sent), 400, "invalid-input"
        )
        assert body["errors"][0]["pointer"].startswith("/input_data/")
        mended = await gate.post("/tailored-letter/provide_input", {**sent, "input_data": ANSWER})
        assert mended.status == 200

    @pytest.mark.parametrize(
        ("change", "pointer"),
        [
            ({"job_id": None}, "/job_id"),
            ({"status_id": None}, "/status_id"),
            ({"status_id": 7}, "/status_id"),
            ({"input_data": None}, "/input_data"),
            ({"input_data": "text"}, "/input_data"),
        ],
    )
    async def test_missing_and_mistyped_members_are_named(
        self, gate: Gate, change: dict[str, Any], pointer: str
    ) -> None:
        sent = {"job_id": "x", "status_id": "x", "input_data": {}, **change}
        sent = {name: value for name, value in sent.items() if value is not None}
        body = await problem(
            await gate.post("/text-summary/provide_input", sent), 400, "invalid-input"
        )
        assert body["errors"][0]["pointer"] == pointer

    async def test_unknown_job_and_job_of_another_flow(self, gate: Gate) -> None:
        asked = await ask(gate)
        sent = {"job_id": asked["job_id"], "status_id": asked["id"], "input_data": ANSWER}
        await problem(await gate.post("/text-summary/provide_input", sent), 404, "unknown-job")
        sent["job_id"] = "nonsense"
        await problem(await gate.post("/tailored-letter/provide_input", sent), 404, "unknown-job")


class TestPaymentService:
    @pytest.mark.parametrize("status", [400, 401])
    async def test_refusal_for_good_is_a_bad_gateway(self, gate: Gate, status: int) -> None:
        gate.fault("POST /payment", "status", status=status)
        answer = await gate.post("/text-summary/start_job", purchase())
        code = "payment-misconfigured" if status == 401 else "payment-rejected"
        body = await problem(answer, 502, code)
        assert body["dependency"] == "payment"
        assert body["retryable"] is False

    async def test_lost_answer_is_looked_for_and_found(self, gate: Gate) -> None:
        gate.fault("POST /payment", "reset", when="after", times=1)
        answer = await gate.post("/text-summary/start_job", purchase())
        assert answer.status == 200
        assert gate.payment_calls() == 1

    async def test_answer_that_stays_unknown_is_told_as_such_and_found_later(
        self, gate: Gate
    ) -> None:
        gate.fault("POST /payment", "reset", when="after", times=1)
        gate.fault("GET /payment", "status", status=400)
        gate.fault("GET /payment/diff", "status", status=400)  # nor does the job loop learn of it
        answer = await gate.post("/text-summary/start_job", purchase())
        body = await problem(answer, 504, "payment-outcome-unknown")
        assert body["retryable"] is True
        await problem(
            await gate.post("/text-summary/start_job", purchase()), 409, "request-in-progress"
        )
        gate.sandbox.faults.clear()
        async with asyncio.timeout(40):
            while (await gate.post("/text-summary/start_job", purchase())).status != 200:
                await asyncio.sleep(0.2)
        assert gate.payment_calls() == 1


class TestWithoutDatabase:
    async def test_nothing_is_bought_and_flows_are_still_shown(
        self, open_gate: OpenGate, private_postgres: Any
    ) -> None:
        server = private_postgres()
        migrate(server.url)
        gate = await open_gate(database_url=server.url)
        job_id = (await gate.buy())["id"]
        assert (await gate.get("/flows/text-summary")).status == 200
        calls = gate.payment_calls()
        server.stop()
        answer = await gate.post("/text-summary/start_job", purchase(text=TEXT + " More."))
        assert answer.status == 503
        body = await answer.json(content_type=None)
        assert body["dependency"] == "postgres"
        assert int(answer.headers["Retry-After"]) >= 1
        assert gate.payment_calls() == calls
        status = await gate.get(f"/text-summary/status?job_id={job_id}")
        assert status.status == 503
        for path in ("/flows/text-summary", "/text-summary/input_schema", "/livez", "/readyz"):
            assert (await gate.get(path)).status == 200


ANSWER: dict[str, Any] = {"reference": "4711"}


def purchase(*, text: str = TEXT) -> dict[str, Any]:
    return {"identifier_from_purchaser": IDENTIFIER, "input_data": {"text": text}}


async def ask(gate: Gate) -> dict[str, Any]:
    """The status of a job that has asked its question."""
    started = await gate.post("/tailored-letter+free/start_job", {"input_data": LETTER})
    assert started.status == 200, await started.text()
    job_id = (await started.json())["id"]
    return await gate.status("tailored-letter", job_id, until="awaiting_input")
