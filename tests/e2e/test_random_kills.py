"""A short drill of ``make chaos``: whatever is killed when, no job is lost, none is sold twice."""

from __future__ import annotations

import secrets

import pytest

from scripts.chaos import report
from scripts.chaos.drill import Plan, drill
from tests.support.servers import scratch_directory


@pytest.mark.timeout(180)
async def test_whatever_is_killed_the_books_are_in_order() -> None:
    kills = 8
    plan = Plan(kills, secrets.randbelow(10**6), purchasers=12, patience_s=60.0, hasten=True)
    with scratch_directory() as home:
        findings = await drill(home, plan)
    assert findings.in_order, report.text(findings)
    assert findings.tally.kills.total() == kills
    # It was a drill at all: something was bought, and some purchasers felt it.
    assert findings.tally.finished_after_s
    assert findings.tally.refusals
