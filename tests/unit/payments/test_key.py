"""A key that cannot sell is found out, said once an asking, and said to be well again."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from service.errors import (
    CircuitOpen,
    DeadlineExceeded,
    PaymentMisconfigured,
    PaymentUnavailable,
    TollgateError,
)
from service.payments import key as key_module
from service.payments.key import KeyWatch
from service.payments.models import KeyStatus

GOOD = KeyStatus(active=True, can_read=True, can_pay=True, networks=("Preprod",))


class Service:
    """Answers what it is told to, the last answer for ever."""

    def __init__(self, *answers: KeyStatus | TollgateError) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def check_key(self) -> KeyStatus:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, TollgateError):
            raise answer
        return answer


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    for state in key_module.PERIODS_S:
        monkeypatch.setitem(key_module.PERIODS_S, state, 0.0)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (KeyStatus(False, True, True, ("Preprod",)), "the key is revoked"),
        (KeyStatus(True, False, True, ("Preprod",)), "the key may not read payments"),
        (KeyStatus(True, True, False, ("Preprod",)), "the key may not ask for payments"),
        (KeyStatus(True, True, True, ("Mainnet",)), "the key is for Mainnet only"),
        (PaymentMisconfigured(), "the payment service does not know the key"),
    ],
)
async def test_unusable_key_is_said(answer: KeyStatus | TollgateError, fault: str) -> None:
    watch = KeyWatch(Service(answer), network="Preprod")
    with capture_logs() as lines:
        assert not await watch.tick()
    assert (watch.state, watch.fault) == ("unusable", fault)
    [line] = lines
    assert (line["event"], line["log_level"], line["fault"]) == (
        "payment_key_unusable",
        "error",
        fault,
    )


@pytest.mark.parametrize("networks", [("Preprod",), ("Mainnet", "Preprod"), ()])
async def test_good_key_is_no_news(networks: tuple[str, ...]) -> None:
    watch = KeyWatch(Service(KeyStatus(True, True, True, networks)), network="Preprod")
    with capture_logs() as lines:
        await watch.tick()
    assert (watch.state, watch.fault, lines) == ("usable", None, [])


@pytest.mark.parametrize("error", [PaymentUnavailable(), CircuitOpen(), DeadlineExceeded()])
async def test_service_that_is_away_says_nothing_about_the_key(
    no_pauses: None, error: TollgateError
) -> None:
    watch = KeyWatch(Service(error, PaymentMisconfigured(), error), network="Preprod")
    await watch.tick()
    assert watch.state == "unknown"
    await watch.tick()
    await watch.tick()
    assert watch.state == "unusable"


async def test_key_that_is_well_again_is_said_once(no_pauses: None) -> None:
    watch = KeyWatch(Service(PaymentMisconfigured(), GOOD), network="Preprod")
    with capture_logs() as lines:
        for _ in range(3):
            await watch.tick()
    assert [line["event"] for line in lines] == ["payment_key_unusable", "payment_key_usable"]
    assert (watch.state, watch.fault) == ("usable", None)


async def test_nobody_is_asked_again_before_it_is_time() -> None:
    service = Service(PaymentMisconfigured())
    watch = KeyWatch(service, network="Preprod")
    with capture_logs() as lines:
        for _ in range(5):
            await watch.tick()
    assert (service.asked, len(lines)) == (1, 1)
