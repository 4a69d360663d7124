"""Each degraded mode, produced for real: what was scraped makes exactly its alert fire.

The modes come one after the other and some stay; after each a page is scraped, and all are fed to
the shipped rules at the end. UNCHECKED is not among them: it is a worker that cannot look at its
own parts (tests/api/test_degraded_modes.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import psycopg2
import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from scripts.devservers import EmbeddedValkey
from scripts.faultproxy import FaultProxy
from scripts.stack import stack
from service.health import Mode
from tests.e2e.conftest import LIFTED, Answer, Site
from tests.support.promtool import firing, needed
from tests.support.servers import Servers, execute, scratch_directory
from tests.support.waiting import eventually

pytestmark = [needed, pytest.mark.timeout(180)]

ALERTS = {
    Mode.REDIS_AWAY: "TollgateRedisAway",
    Mode.REDIS_REFUSING: "TollgateRedisRefusing",
    Mode.LIMITS_LOCAL: "TollgateLimitsLocal",
    Mode.POSTGRES_AWAY: "TollgatePostgresAway",
    Mode.POSTGRES_BUSY: "TollgatePostgresBusy",
    Mode.POSTGRES_READ_ONLY: "TollgatePostgresReadOnly",
    Mode.CHANGES_UNHEARD: "TollgateChangesUnheard",
    Mode.PAYMENT_OPEN: "TollgatePaymentOpen",
    Mode.PAYMENT_KEY_UNUSABLE: "TollgatePaymentKeyUnusable",
    Mode.OVERLOADED: "TollgateOverloaded",
}
#: Limits are local then because of Redis, which has an alert of its own.
REDIS = {Mode.REDIS_AWAY, Mode.REDIS_REFUSING}

#: Each way: slower than the limiter waits (0.1 s), quicker than anybody else does (0.25 s).
SLOW_S = 0.07


class Way:
    """The way to Redis, which can be made longer; its proxy lives in a thread of its own."""

    def __init__(self, proxy: FaultProxy, loop: asyncio.AbstractEventLoop) -> None:
        self._proxy = proxy
        self._loop = loop
        self.url = proxy.url

    @contextlib.contextmanager
    def slower(self) -> Iterator[None]:
        self._do(self._proxy.delay(SLOW_S))
        try:
            yield
        finally:
            self._do(self._proxy.forward())

    def _do(self, change: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(change, self._loop).result(20)


@contextlib.contextmanager
def way_to(url: str) -> Iterator[Way]:
    made: SimpleQueue[Way] = SimpleQueue()
    over = threading.Event()

    async def serve() -> None:
        async with FaultProxy.before(url) as proxy:
            made.put(Way(proxy, asyncio.get_running_loop()))
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        yield made.get(timeout=20)
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def valkey(servers: Servers) -> Iterator[EmbeddedValkey]:
    started = servers.private_valkey()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def way(valkey: EmbeddedValkey) -> Iterator[Way]:
    with way_to(valkey.url) as made:
        yield made


@pytest.fixture(scope="module")
def site(servers: Servers, valkey: EmbeddedValkey, way: Way) -> Iterator[Site]:
    """Two workers; they listen to PostgreSQL under a role of their own, which can be shut out."""
    with ExitStack() as on_exit:
        postgres = servers.private_postgres()
        on_exit.callback(postgres.stop)
        execute(postgres.url, "CREATE ROLE listener LOGIN")
        settings = {
            **LIFTED,
            "TOLLGATE_DATABASE__URL": postgres.url,
            "TOLLGATE_DATABASE__LISTEN_URL": as_role(postgres.url, "listener"),
            "TOLLGATE_DATABASE__POOL_MIN": "1",
            "TOLLGATE_DATABASE__POOL_MAX": "3",
            "TOLLGATE_DATABASE__RESERVE": "0",
            "TOLLGATE_REDIS__URL": way.url,
            "TOLLGATE_SERVER__WORKERS": "2",
            "TOLLGATE_SERVER__DRAIN_DELAY": "0",
            "TOLLGATE_SERVER__SHUTDOWN_TIMEOUT": "1",
        }
        home = on_exit.enter_context(scratch_directory())
        running = on_exit.enter_context(stack(home, settings))
        yield Site(running, postgres, valkey, settings, home)


def as_role(url: str, role: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{role}@{rest.rpartition('@')[2]}"


def page(site: Site) -> str:
    return str(site.get("/metrics", internal=True).body.decode())


def modes_in(text: str) -> set[Mode]:
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {Mode(s.labels["mode"]) for s in families["tollgate_degraded"].samples if s.value}


def scraped(site: Site, *modes: Mode) -> str:
    """The page as soon as it shows exactly these modes; without Redis limits may be local too."""
    shown: list[str] = []

    def as_wanted() -> bool:
        shown[:] = [page(site)]
        seen = modes_in(shown[0])
        return (seen - {Mode.LIMITS_LOCAL} if seen & REDIS else seen) == set(modes)

    try:
        eventually(as_wanted, within_s=30)
    except AssertionError:
        raise AssertionError(f"wanted {set(modes)}, saw {modes_in(shown[0])}") from None
    return shown[0]


def buy(site: Site) -> Answer:
    return site.post(
        "/text-summary/start_job",
        {
            "identifier_from_purchaser": secrets.token_hex(8),
            "input_data": {"text": "Bees make honey. Bees live in hives."},
        },
    )


@contextlib.contextmanager
def again_and_again(act: Callable[[], object], *, at_once: int) -> Iterator[None]:
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            act()

    threads = [threading.Thread(target=go_on) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_each_mode_makes_its_alert_fire_and_no_other(site: Site, way: Way, tmp_path: Path) -> None:
    pages: list[tuple[str, set[Mode]]] = []

    def see(*modes: Mode, at: Site = site) -> None:
        pages.append((scraped(at, *modes), set(modes)))

    assert buy(site).status == 200
    eventually(lambda: "tollgate_jobs_open" in page(site))
    see()

    payment_url = str(site.running.service.payment_url)
    with beside(site, PAYMENT__URL=payment_url, PAYMENT__API_KEY="nobodys") as misconfigured:
        see(Mode.PAYMENT_KEY_UNUSABLE, at=misconfigured)

    # Any wait is too long there, and two requests at once give cause for a limit.
    with (
        beside(site, OVERLOAD__QUEUE_DELAY="0.000001", OVERLOAD__LEAST_REQUESTS="1") as busy,
        again_and_again(lambda: busy.get("/flows"), at_once=24),
    ):
        see(Mode.OVERLOADED, at=busy)

    with way.slower(), again_and_again(lambda: site.get("/flows"), at_once=2):
        see(Mode.LIMITS_LOCAL)

    with contextlib.closing(psycopg2.connect(site.postgres.url)) as connection:
        connection.cursor().execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        with again_and_again(lambda: buy(site), at_once=12):
            see(Mode.POSTGRES_BUSY)
            connection.rollback()

    with contextlib.closing(redis.Redis.from_url(site.valkey.url)) as client:
        client.acl_setuser("default", enabled=True, reset_channels=True)
        client.client_kill_filter(_type="pubsub")
    execute(site.postgres.url, "ALTER ROLE listener NOLOGIN")
    execute(
        site.postgres.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'listener'",
    )
    see(Mode.CHANGES_UNHEARD)

    site.order_fault(route="*", kind="status", status=500)
    with again_and_again(lambda: buy(site), at_once=1):
        eventually(lambda: site.get("/health").body["breaker"] == "open")
    see(Mode.CHANGES_UNHEARD, Mode.PAYMENT_OPEN)

    execute(site.postgres.url, "ALTER ROLE ALL SET default_transaction_read_only = on")
    execute(
        site.postgres.url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    see(Mode.CHANGES_UNHEARD, Mode.PAYMENT_OPEN, Mode.POSTGRES_READ_ONLY)

    site.postgres.kill()
    see(Mode.CHANGES_UNHEARD, Mode.PAYMENT_OPEN, Mode.POSTGRES_AWAY)

    with contextlib.closing(redis.Redis.from_url(site.valkey.url)) as client:
        client.acl_setuser("default", enabled=True, categories=["-@scripting"])
    see(Mode.CHANGES_UNHEARD, Mode.PAYMENT_OPEN, Mode.POSTGRES_AWAY, Mode.REDIS_REFUSING)
    site.valkey.kill()
    see(Mode.CHANGES_UNHEARD, Mode.PAYMENT_OPEN, Mode.POSTGRES_AWAY, Mode.REDIS_AWAY)

    assert {mode for _, modes in pages for mode in modes} == set(Mode) - {Mode.UNCHECKED}
    healthy, _ = pages[0]
    with ThreadPoolExecutor(2) as two:
        fired = two.map(lambda seen: firing(tmp_path, healthy, seen[0]), pages)
    for (_, modes), alerts in zip(pages, fired, strict=True):
        assert alerts == {ALERTS[mode] for mode in modes}


@contextlib.contextmanager
def beside(site: Site, **changes: str) -> Iterator[Site]:
    """A replica beside it, of one worker, with these settings."""
    own = {f"TOLLGATE_{name}": value for name, value in changes.items()}
    settings = {**site.settings, "TOLLGATE_SERVER__WORKERS": "1", **own}
    with scratch_directory() as home, stack(home, settings) as running:
        yield Site(running, site.postgres, site.valkey, settings, home)
