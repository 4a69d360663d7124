"""A dependency goes away under a running service, and comes back: what the clients see of it."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable

import pytest

from tests.e2e.conftest import Answer, Site
from tests.support.waiting import eventually

MakeSite = Callable[..., Site]
TEXT = "Bees make honey. Bees live in hives. A hive has one queen."
PAID = {"input_data": {"text": TEXT}}


@pytest.fixture
def away(make_site: MakeSite) -> Site:
    return make_site(TOLLGATE_SERVER__WORKERS="2")


def buy(site: Site, flow: str = "text-summary") -> Answer:
    return site.post(
        f"/{flow}/start_job", {**PAID, "identifier_from_purchaser": secrets.token_hex(8)}
    )


def health(site: Site) -> str:
    return str(site.get("/health").body["status"])


def test_without_redis_sales_go_on_and_limits_hold_as_shares(away: Site) -> None:
    assert buy(away).status == 200
    away.valkey.kill()
    eventually(lambda: health(away) == "degraded")
    assert buy(away).status == 200
    assert away.get("/flows").status == 200
    assert away.get("/readyz").status == 200
    away.valkey.start()
    eventually(lambda: health(away) == "ok")
    assert buy(away).status == 200


def test_without_postgres_nothing_is_sold_and_no_payment_is_asked_for(away: Site) -> None:
    assert buy(away).status == 200
    known = len(away.books()["payments"])
    away.postgres.kill()
    refused = buy(away)
    assert (refused.status, refused.body["dependency"]) == (503, "postgres")
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert len(away.books()["payments"]) == known
    assert away.get("/text-summary/input_schema").status == 200
    assert away.get("/livez").status == 200
    assert away.get("/readyz").status == 200
    away.postgres.start()
    eventually(lambda: buy(away).status == 200)


def test_failing_payment_service_is_spared_and_free_flows_go_on(away: Site) -> None:
    away.order_fault(route="*", kind="status", status=500)
    assert buy(away).status in {503, 504}  # refused, or its outcome not yet known
    eventually(lambda: away.get("/health").body["breaker"] == "open")
    calls = sum(away.books()["calls"].values())
    refused = buy(away)
    assert (refused.status, refused.body["dependency"]) == (503, "payment")
    assert int(refused.headers["Retry-After"]) >= 1
    assert sum(away.books()["calls"].values()) == calls
    availability = away.get("/text-summary/availability")
    assert (availability.status, availability.body["status"]) == (200, "unavailable")
    assert away.get("/text-summary+free/availability").body["status"] == "available"
    assert buy(away, "text-summary+free").status == 200


def test_service_waits_for_dependencies_that_are_down_at_its_start(make_site: MakeSite) -> None:
    """Both are frozen while a worker starts; it does not crash-loop, and all is well after."""
    site = make_site(TOLLGATE_SERVER__WORKERS="1")
    eventually(site.workers_started)
    [first] = site.workers_started()
    site.postgres.suspend()
    site.valkey.suspend()
    try:
        os.kill(first, signal.SIGKILL)
        eventually(lambda: len(site.workers_started()) == 2)
        assert site.get("/livez", internal=True).status == 200
        assert site.get("/readyz", internal=True).status == 503
    finally:
        site.postgres.resume()
        site.valkey.resume()
    eventually(lambda: site.get("/readyz", internal=True).status == 200)
    # Shares of the limits begin empty and may refuse until Redis is seen to be back.
    eventually(lambda: buy(site).status == 200)
    assert len(site.workers_started()) == 2


def test_slow_payment_service_does_not_slow_the_others(away: Site) -> None:
    away.order_fault(route="POST /payment", kind="hang")
    answers: list[Answer] = []
    buyers = [threading.Thread(target=lambda: answers.append(buy(away))) for _ in range(4)]
    for buyer in buyers:
        buyer.start()
    assert away.get("/flows", timeout_s=5.0).status == 200
    for buyer in buyers:
        buyer.join()
    assert {answer.status for answer in answers} <= {503, 504}
