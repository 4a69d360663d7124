"""The key is looked at in the background of every start; what is wrong with it is in the health."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from service.health import ComponentState
from service.wiring import Services, connect
from tests.support.house import API_KEY, house_settings
from tests.support.sandbox import running_sandbox
from tests.support.waiting import until

READ_ONLY = "read-only-key"


def payment(services: Services) -> ComponentState:
    return services.health.snapshot().components["payment"]


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"api_key": READ_ONLY}, "the key may not ask for payments"),
        ({"api_key": "nobodys"}, "the payment service does not know the key"),
        ({"network": "Mainnet"}, "the key is for Preprod only"),
    ],
)
async def test_unusable_key_is_told_and_the_worker_serves_on(
    database_url: str, redis_url: str, given: dict[str, Any], fault: str
) -> None:
    async with running_sandbox(api_key=API_KEY, read_key=READ_ONLY, refusal_delay_s=0.0) as sandbox:
        settings = house_settings(
            database_url, redis_url, sandbox.url, server={"role": "web"}, payment=given
        )
        with capture_logs() as lines:
            async with connect(settings, loops=True) as services:
                await until(lambda: payment(services).detail.get("key") == fault)
                assert payment(services).state == "degraded"
                assert services.health.snapshot().modes == ("payment_key_unusable",)
    [line] = [line for line in lines if line["event"] == "payment_key_unusable"]
    assert (line["log_level"], line["fault"]) == ("error", fault)
    assert not any(given.get("api_key", API_KEY) in str(line) for line in lines)


async def test_good_key_is_well(database_url: str, redis_url: str) -> None:
    async with running_sandbox(api_key=API_KEY) as sandbox:
        settings = house_settings(database_url, redis_url, sandbox.url, server={"role": "web"})
        async with connect(settings, loops=True) as services:
            await until(lambda: payment(services).detail.get("key") == "usable")
            assert payment(services).state == "ok"
