"""The database's numbers as Prometheus shows them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from service.database import PoolStatus, load_queries
from service.database.classes import Lane, StatementClass
from service.database.observer import Observer
from service.metrics.pool import DatabaseCounts


def shown(registry: CollectorRegistry) -> str:
    return generate_latest(registry).decode()


def test_pool_is_shown_as_it_is_when_asked() -> None:
    registry = CollectorRegistry()
    counts: Observer = DatabaseCounts(registry)
    now = PoolStatus(10, 6, 4, 3, 10, 20, {"requests": 1, "reads": 3}, {"reads": 3})
    counts.watch(lambda: now)
    page = shown(registry)
    assert "tollgate_database_pool_connections 10.0" in page
    assert "tollgate_database_pool_free_connections 6.0" in page
    assert 'tollgate_database_pool_used_connections{lane="reads"} 3.0' in page
    assert 'tollgate_database_pool_waiting_requests{lane="reads"} 3.0' in page
    now = PoolStatus(20, 0, 20, 0, 10, 20, {"requests": 20, "reads": 0}, {"reads": 0})
    assert "tollgate_database_pool_connections 20.0" in shown(registry)


def test_waits_refusals_losses_and_statements_are_counted() -> None:
    registry = CollectorRegistry()
    counts: Observer = DatabaseCounts(registry)
    counts.waited(Lane.READS, 0.02)
    counts.refused(Lane.REQUESTS, "busy")
    counts.opened()
    counts.lost("suspect")
    counts.ran("get_job", StatementClass.QUICK, 0.002, "ok")
    counts.ran("get_job", StatementClass.QUICK, 3.0, "timeout")
    counts.repeated()
    page = shown(registry)
    for line in (
        'tollgate_database_pool_wait_seconds_count{lane="reads"} 1.0',
        'tollgate_database_pool_refused_total{lane="requests",reason="busy"} 1.0',
        "tollgate_database_pool_opened_total 1.0",
        'tollgate_database_pool_lost_total{cause="suspect"} 1.0',
        'tollgate_database_statements_total{outcome="ok",statement="get_job"} 1.0',
        'tollgate_database_statements_total{outcome="timeout",statement="get_job"} 1.0',
        'tollgate_database_statement_seconds_count{class="quick"} 2.0',
        'tollgate_database_statement_seconds_bucket{class="quick",le="0.0025"} 1.0',
        "tollgate_database_statements_repeated_total 1.0",
    ):
        assert line in page


def test_every_lane_and_class_there_is_can_be_counted() -> None:
    counts: Observer = DatabaseCounts(CollectorRegistry())
    for lane in Lane:
        counts.waited(lane, 0.1)
    for kind in StatementClass:
        counts.ran("one", kind, 0.1, "ok")


def test_the_names_of_statements_are_few() -> None:
    """Each is a label: what is made up at the call is all called unnamed."""
    names = {*load_queries("service.jobs"), *load_queries("service.flows")}
    assert len(names) < 100
