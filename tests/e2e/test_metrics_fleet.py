"""The metrics of a replica with three workers: what a killed one leaves, and what a flood makes."""

from __future__ import annotations

import http.client
import os
import random
import secrets
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from scripts.loopback import LOOPBACK
from service.settings import LimitSettings
from tests.e2e.replicas import Replica, replicas
from tests.e2e.windows import Limit
from tests.support.promtool import needed, promtool
from tests.support.servers import Servers, scratch_directory
from tests.support.waiting import eventually

WORKERS = 3
ROOMY = {name: Limit(1_000_000, 1, 1_000_000) for name in LimitSettings().route_classes}
#: Metrics that grow only, and what their samples end in.
COUNTED = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}

Series = tuple[str, tuple[tuple[str, str], ...]]


@pytest.fixture(scope="module")
def replica(servers: Servers) -> Iterator[Replica]:
    servers.flush()
    with (
        scratch_directory() as home,
        servers.cloned_database() as url,
        replicas(home, url, [servers.redis_url], ROOMY, workers=WORKERS) as (made,),
    ):
        yield made


def page(replica: Replica) -> str:
    url = f"http://{LOOPBACK}:{replica.internal_port}/metrics"
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def families(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def counts(text: str) -> dict[Series, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families(text).values()
        for sample in family.samples
        if sample.name.endswith(COUNTED.get(family.type, ()))
    }


def gauge(text: str, name: str) -> float:
    (sample,) = families(text)[name].samples
    return sample.value


@contextmanager
def traffic(replica: Replica) -> Iterator[None]:
    """Two clients that ask again at once, on new connections so that every worker has some."""
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            for path in ("/health", "/flows", "/nowhere"):
                connection = http.client.HTTPConnection(LOOPBACK, replica.port, timeout=20)
                try:
                    connection.request("GET", path)
                    connection.getresponse().read()
                except OSError:  # it was the killed worker's
                    pass
                finally:
                    connection.close()

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        over.set()
        for client in clients:
            client.join()


def test_totals_never_fall_though_a_worker_is_killed_and_its_gauges_end(replica: Replica) -> None:
    with traffic(replica):
        eventually(lambda: gauge(page(replica), "tollgate_workers") == WORKERS)
        known = counts(page(replica))
        fallen: list[tuple[Series, float, float | None]] = []
        seen_workers: set[float] = set()

        def scrape() -> str:
            text = page(replica)
            now = counts(text)
            fallen.extend(
                (series, value, now.get(series))
                for series, value in known.items()
                if now.get(series, -1.0) < value
            )
            known.update(now)
            seen_workers.add(gauge(text, "tollgate_workers"))
            return text

        for _ in range(5):
            scrape()
        (victim, *_) = replica.workers()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: scrape() and replica.entries("worker_gone"))
        eventually(
            lambda: gauge(scrape(), "tollgate_workers") == WORKERS and len(replica.workers()) == 4,
            within_s=30,
        )
        for _ in range(5):
            text = scrape()
        assert not fallen
        assert max(seen_workers) == WORKERS, "never one too many"
    limits = {
        s.labels["resource"]: s.value for s in families(text)["tollgate_capacity_limit"].samples
    }
    assert limits["database_connections"] == WORKERS * 4
    assert known["tollgate_worker_starts_total", ()] == WORKERS + 1
    assert known["tollgate_worker_stops_total", ()] == 0
    everywhere = {
        label for family in families(text).values() for s in family.samples for label in s.labels
    }
    assert "pid" not in everywhere


def test_a_flood_of_names_makes_no_series(replica: Replica) -> None:
    def flood(number: int) -> None:
        chance = random.Random(number)
        connection = http.client.HTTPConnection(LOOPBACK, replica.port, timeout=20)
        for _ in range(number):
            word = secrets.token_hex(6)
            path = chance.choice(
                (f"/{word}", f"/flows/{word}", f"/{word}/{word}", f"/{word}/status?job_id={word}",
                 f"/{word}/input_schema", f"/?{word}={word}")
            )  # fmt: skip
            connection.putrequest(
                chance.choice(("GET", "POST", "DELETE", "PROPFIND", word.upper())),
                path,
                skip_host=True,
            )
            connection.putheader("Host", f"{word}.example")
            connection.putheader("X-Forwarded-For", f"10.{number}.{chance.getrandbits(8)}.7")
            connection.putheader("X-Forwarded-Proto", word)
            connection.putheader("Origin", f"https://{word}.example")
            connection.putheader("Content-Length", "0")
            connection.endheaders()
            connection.getresponse().read()
        connection.close()

    flood(150)
    eventually(lambda: 'method="UNKNOWN"' in page(replica))
    first = set(counts(page(replica)))
    flood(600)
    text = page(replica)
    # A path, a method or an answer seen for the first time may bring a few; no name does.
    assert len(set(counts(text)) - first) < 300
    for family in families(text).values():
        for sample in family.samples:
            assert not any("example" in value for value in sample.labels.values())
            assert sample.labels.get("remote", "-") == "-"
    methods = {s.labels["method"] for s in families(text)["aiohttp_requests"].samples}
    assert methods <= {"GET", "HEAD", "POST", "DELETE", "PROPFIND", "UNKNOWN"}


@needed
def test_page_is_to_promtools_taste(replica: Replica) -> None:
    assert promtool("check", "metrics", given=page(replica)) == (0, "")
