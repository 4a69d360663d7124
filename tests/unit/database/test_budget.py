"""The arithmetic of the connection budget."""

from __future__ import annotations

import pytest

from service.database.budget import BudgetReport


def budget(*, workers: int = 4, others: int = 0, pooler: bool = False) -> BudgetReport:
    return BudgetReport(
        workers=workers, pool_max=20, maximum=100, reserved=3, others=others, pooler=pooler
    )


@pytest.mark.parametrize(
    ("report", "available", "replicas"),
    [
        (budget(), 92, 1),
        (budget(workers=2), 92, 2),
        (budget(others=8), 84, 1),
        (budget(others=9), 83, 0),
        (budget(others=13, pooler=True), 79, 19),
        (budget(others=200), -108, 0),
    ],
)
def test_what_fits(report: BudgetReport, available: int, replicas: int) -> None:
    assert (report.available, report.replicas) == (available, replicas)


def test_the_sum_is_told_in_words() -> None:
    assert str(budget(workers=5, others=12)) == (
        "5 workers x (20 in the pool + 1 to listen) connections = 105 for this replica; PostgreSQL"
        " takes 100, less 3 reserved, less 12 in use by others, less 5 for administration = 80: not"
        " enough. Lower server.workers or database.pool_max, raise PostgreSQL's max_connections, or"
        " put a connection pooler in between."
    )
    assert str(budget()).endswith("= 92: room for 1 such replica(s).")
    assert str(budget(others=13, pooler=True)) == (
        "4 workers x 20 connections = 80 to the pooler (its max_client_conn), and 4 x 1 past it to"
        " listen = 4 for this replica; PostgreSQL takes 100, less 3 reserved, less 13 in use by"
        " others (the pooler's among them), less 5 for administration = 79: room for 19 such"
        " replica(s)."
    )
