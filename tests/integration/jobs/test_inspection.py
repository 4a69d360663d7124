"""What operators are shown of a job, and that it is not what its purchaser sent."""

from __future__ import annotations

import asyncio
import re
from uuid import UUID

import pytest

from service import cli
from tests.support.house import House

SECRET = "The secret of the hive. Nobody may read it. Bees know it."


class Operator:
    """At a terminal, with the house's database."""

    def __init__(self, home: House, captured: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self._captured = captured

    async def types(self, *arguments: str) -> str:
        self._captured.readouterr()
        assert await asyncio.to_thread(cli.main, ["jobs", *arguments]) == 0
        return self._captured.readouterr().out

    async def sees(self, job_id: UUID) -> dict[str, str]:
        shown = await self.types("show", str(job_id))
        assert SECRET not in shown
        fields = re.findall(r"(?m)^(\S+(?: \S+)*) {2,}(\S.*)$", shown.split("\n\n")[0])
        return dict(fields)


@pytest.fixture
def operator(
    home: House, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Operator:
    url = home.settings.database.url
    assert url is not None
    monkeypatch.setenv("TOLLGATE_DATABASE__URL", url.get_secret_value())
    return Operator(home, capsys)


async def start(home: House) -> UUID:
    return (await home.start(input_data={"text": SECRET})).job.id


async def test_job_is_told_in_words_from_its_start_to_its_settlement(operator: Operator) -> None:
    home = operator.home
    job_id = await start(home)
    seen = await operator.sees(job_id)
    assert (seen["state"], seen["on chain"]) == ("awaiting_payment", "nothing seen")
    assert {"pay by", "submit by", "next look", "client"} <= seen.keys()
    assert "paid" not in seen

    await home.pay(job_id)
    await home.services.repository.claim_runs("worker-7", most=1)
    seen = await operator.sees(job_id)
    assert (seen["state"], seen["on chain"], seen["runs"]) == ("running", "FundsLocked", "1 begun")
    assert seen["worker"].startswith("worker-7, held until ")
    assert {"paid", "must end by"} <= seen.keys()

    await home.sql("UPDATE jobs SET lease_until = now() - interval '1 s'")
    seen = await operator.sees(job_id)
    assert seen["worker"].startswith("worker-7, LOST: its lease ended ")
    await home.run_all()
    seen = await operator.sees(job_id)
    assert seen["runs"] == "2 begun, 1 lost with their worker"
    assert seen["settlement"] == "due: the result has to be handed in"
    assert "next look" in seen
    for _ in range(3):
        await home.make_due(job_id)
        await home.settler().tick()
        await asyncio.sleep(0.05)
    seen = await operator.sees(job_id)
    assert seen["settlement"] == "settled: the result was seen on chain"
    assert "next look" not in seen


async def test_what_needs_a_hand_says_so(operator: Operator) -> None:
    home = operator.home
    job_id = await start(home)
    await home.sql(
        "UPDATE jobs SET state = 'failed', failure = 'No payment came in time.',"
        " failure_code = 'payment-missing', completed_at = now(),"
        " paid_at = now() + interval '1 s', on_chain_state = 'FundsLocked'"
    )
    seen = await operator.sees(job_id)
    assert seen["paid"].endswith("(LATE: the job was over; give the funds back)")
    assert seen["failure"] == "No payment came in time. [payment-missing]"
    await home.sql(
        "UPDATE jobs SET state = 'completed', result = 'r', result_hash = 'h', failure = NULL,"
        " settlement = 'due', settlement_recoveries = 5, settlement_attempts = 9"
    )
    seen = await operator.sees(job_id)
    assert seen["recoveries"] == "5 (in vain: it needs a hand at the payment service)"


async def test_list_has_what_is_not_through_oldest_first(operator: Operator) -> None:
    home = operator.home
    paid, unpaid = await start(home), (await home.start(input_data={"text": "Two."})).job.id
    free = (await home.start("echo+free")).job.id
    await home.run_all()
    listed = await operator.types("list")
    assert SECRET not in listed
    assert re.findall(r"(?m)^([0-9a-f-]{36})", listed) == [str(paid), str(unpaid)]
    await home.pay(paid)
    await home.run_all()
    # Completed, and still to be settled.
    assert re.findall(r"(?m)^([0-9a-f-]{36})", await operator.types("list")) == [
        str(paid),
        str(unpaid),
    ]
    assert re.search(rf"(?m)^{paid} .* completed .* due ", await operator.types("list"))
    done = await operator.types("list", "--state", "completed")
    assert set(re.findall(r"(?m)^([0-9a-f-]{36})", done)) == {str(paid), str(free)}
    both = await operator.types(
        "list", "--state", "completed", "--state", "awaiting_payment", "--limit", "2"
    )
    assert re.findall(r"(?m)^([0-9a-f-]{36})", both) == [str(paid), str(unpaid)]
    assert await operator.types("list", "--state", "failed") == ""


@pytest.mark.parametrize("wrong", [["--state", "lost"], ["--limit", "0"], ["--limit", "many"]])
def test_wrong_arguments_are_refused(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        cli.main(["jobs", "list", *wrong])
    assert refused.value.code == 2
