"""The one place that knows how the parts meet: builds all, in order, and closes all, in reverse.

The body of ``connect`` is the boot order. It waits for no dependency: PostgreSQL and Redis may be
away at start, then the worker answers what it can and says what it lacks, as at any other time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry

from service.admission.limiter import Limiter
from service.admission.published import PublishedLimits
from service.admission.rules import Rules
from service.breaker.breaker import Breaker
from service.cache.cache import TieredCache
from service.checks import Watched, health_of
from service.database import Database
from service.database.listener import Listener
from service.fleet.fleet import Fleet
from service.flows.cached import NAMESPACE
from service.flows.catalog import Catalog
from service.flows.changes import FlowChanges
from service.health import Health, Mode
from service.jobs.inspection import census
from service.jobs.lifecycle import Lifecycle
from service.jobs.loops import Loop
from service.jobs.models import JobState
from service.jobs.reconciler import Reconciler, worker_name
from service.jobs.repository import JobRepository
from service.jobs.runs import RENEW_AGAIN_S, RENEWALS_PER_LEASE, Runs
from service.jobs.settlement import Settler
from service.jobs.statuses import CHANNEL, Statuses
from service.metrics import Metrics
from service.overload.models import Priority
from service.overload.overload import Overload
from service.payments.client import PaymentClient
from service.payments.gateway import PaymentGateway
from service.payments.key import KeyWatch
from service.runners.runners import Runners
from service.settings import Settings
from service.settings.needed import required
from service.store.client import Store
from service.traced import TracedCache, TracedLimiter, TracedStatements
from service.vitals import fleet_of, vitals_of

#: How long the start waits for PostgreSQL before it goes on without.
DATABASE_WAIT_S = 3.0
#: How often waiting questions and overlong runs are looked for.
EXPIRE_INTERVAL_S = 5.0
#: How often the fleet's jobs are counted for the gauges.
CENSUS_INTERVAL_S = 15.0
#: How often the watch over the payment key is woken; it knows itself when to ask.
KEY_INTERVAL_S = 15.0
_OPEN = (JobState.CREATING, JobState.AWAITING_PAYMENT, JobState.RUNNING, JobState.AWAITING_INPUT)


@dataclass(frozen=True, slots=True)
class Services:
    """All collaborators of one worker; handed to the composition roots only, never further."""

    metrics: Metrics
    store: Store
    database: Database
    listener: Listener
    breaker: Breaker
    limiter: Limiter
    overload: Overload
    rules: Rules
    catalog: Catalog
    changes: FlowChanges
    gateway: PaymentGateway
    key: KeyWatch
    repository: JobRepository
    lifecycle: Lifecycle
    statuses: Statuses
    runs: Runs
    health: Health
    fleet: Fleet


@asynccontextmanager
async def connect(
    settings: Settings,
    *,
    loops: bool,
    registry: CollectorRegistry | None = None,
    draining: Callable[[], bool] = lambda: False,
    classes: Mapping[str, str | None] | None = None,
) -> AsyncIterator[Services]:
    """Everything, connected; ``loops`` also starts the background work of this worker's role.

    Once ``draining`` says so, no further runs are begun here. ``classes`` gives the route class of
    each path, to be counted by. Raises ConfigurationError where a
    needed setting is missing.
    """
    traces = settings.tracing.enabled
    async with AsyncExitStack() as stack:
        metrics = Metrics(registry or CollectorRegistry())
        store = Store(settings.redis, url=required("redis.url", settings.redis.url))
        await store.open()
        stack.push_async_callback(store.close)
        database = Database(
            settings.database,
            url=required("database.url", settings.database.url),
            application_name=f"tollgate-{settings.server.role}",
            observer=TracedStatements(metrics.database) if traces else metrics.database,
        )
        await database.open(wait_s=DATABASE_WAIT_S)
        stack.push_async_callback(database.close)
        listener = Listener(
            settings.database,
            url=required("database.url", settings.database.listen_url or settings.database.url),
            application_name=f"tollgate-{settings.server.role}-listener",
        )
        required("payment.url", settings.payment.url)
        required("payment.api_key", settings.payment.api_key)
        client = PaymentClient(settings.payment)
        await client.open()
        stack.push_async_callback(client.close)
        runners = Runners(counts=metrics.outbound)
        await runners.open()
        stack.push_async_callback(runners.close)

        breaker = Breaker(
            "payment",
            settings.breaker,
            store,
            on_transition=lambda made: metrics.breaker_transitions.labels(
                "payment", made.after, made.cause
            ).inc(),
        )
        stack.push_async_callback(breaker.close)
        limits = Store(
            settings.redis.model_copy(update={"timeout": settings.redis.limiter_timeout}),
            url=required("redis.url", settings.redis.url),
        )
        stack.push_async_callback(limits.close)
        limiter = (TracedLimiter if traces else Limiter)(
            limits, workers_hint=settings.server.workers, observer=metrics.admission
        )
        stack.push_async_callback(limiter.stop)
        cache = (TracedCache if traces else TieredCache)(store, settings.cache, namespace=NAMESPACE)
        stack.push_async_callback(cache.close)
        metrics.cache.watch("flow", cache.statistics)
        changes = FlowChanges(database, store, cache, listener, counts=metrics.changes)
        catalog = Catalog(database, cache, on_unreadable=metrics.flows_unreadable.inc)
        gateway = PaymentGateway(client, breaker, settings.payment, metrics=metrics)
        stack.push_async_callback(gateway.close)
        owner = worker_name()
        repository = JobRepository(database, settings.jobs)
        runs = Runs(
            repository,
            catalog.by_uid,
            runners,
            settings=settings.jobs,
            metrics=metrics,
            owner=owner,
            draining=draining,
        )
        run_loop = Loop("runs", runs.tick, interval_s=settings.jobs.poll_interval)
        lifecycle = Lifecycle(
            repository,
            gateway,
            settings=settings.jobs,
            payment=settings.payment,
            metrics=metrics,
            runs=run_loop,
        )
        stack.push_async_callback(lifecycle.close)
        statuses = Statuses(
            repository, counts=metrics.status, most_waiting=settings.server.waiting_clients
        )
        stack.push_async_callback(statuses.close)
        listener.on(CHANNEL, statuses.told, gap=statuses.gap)
        overload = Overload(
            settings.overload,
            metrics.overload,
            # What waits for news, or for the payment service, is not to be done by this worker.
            aside={
                Priority.STATUS: lambda: metrics.status.waiting,
                Priority.SALE: lambda: gateway.in_flight,
            },
            connection_delay_s=database.waited_s,
        )
        key = KeyWatch(gateway, network=settings.payment.network)
        health = health_of(
            Watched(
                store, limiter, database, cache, changes, breaker, gateway, key, overload, metrics
            )
        )
        services = Services(
            metrics=metrics,
            store=store,
            database=database,
            listener=listener,
            breaker=breaker,
            limiter=limiter,
            overload=overload,
            rules=Rules(
                settings.limits,
                PublishedLimits(store),
                key_secret=settings.admin.key_secret,
                observer=metrics.admission,
            ),
            catalog=catalog,
            changes=changes,
            gateway=gateway,
            key=key,
            repository=repository,
            lifecycle=lifecycle,
            statuses=statuses,
            runs=runs,
            health=health,
            fleet=fleet_of(
                settings,
                store,
                metrics,
                classes or {},
                vitals_of(settings, limiter, database, gateway, runs, health, metrics),
            ),
        )
        _show(settings, services)
        if loops:
            await _start_background(stack, settings, services, run_loop, owner)
        yield services


def _show(settings: Settings, services: Services) -> None:
    """What metrics ask the parts for when they are collected."""
    metrics, capacity = services.metrics, services.metrics.capacity
    metrics.degraded.watch(Mode, lambda: services.health.snapshot().modes)
    metrics.overload.watch(services.overload.status)
    pool = services.database.status
    capacity.watch("database_connections", lambda: pool().used, limit=pool().maximum)
    gateway, bulkhead = services.gateway, settings.payment.bulkhead
    capacity.watch("payment_calls", lambda: gateway.in_flight, limit=bulkhead)
    waiting_clients = settings.server.waiting_clients
    capacity.watch("waiting_clients", lambda: metrics.status.waiting, limit=waiting_clients)
    if settings.server.role != "web":
        runs, concurrency = services.runs, settings.jobs.concurrency
        capacity.watch("runs", lambda: runs.held, limit=concurrency)


async def _start_background(
    stack: AsyncExitStack, settings: Settings, services: Services, run_loop: Loop, owner: str
) -> None:
    services.overload.start()
    stack.callback(services.overload.stop)
    await services.limiter.start()
    await services.rules.start()
    stack.push_async_callback(services.rules.stop)
    await services.changes.start()
    stack.push_async_callback(services.changes.stop)
    await services.listener.start()
    stack.push_async_callback(services.listener.stop)
    await services.health.start()
    stack.push_async_callback(services.health.stop)
    await services.fleet.start()
    stack.push_async_callback(services.fleet.stop)
    key_loop = Loop("payment-key", services.key.tick, interval_s=KEY_INTERVAL_S)
    key_loop.start()
    stack.push_async_callback(key_loop.stop)
    if settings.server.role == "web":
        return
    reconciler = Reconciler(
        services.repository,
        services.gateway,
        settings=settings.jobs,
        payment=settings.payment,
        metrics=services.metrics,
        runs=run_loop,
        owner=owner,
    )
    settler = Settler(services.repository, services.gateway, metrics=services.metrics)
    poll_s, lease_s = settings.payment.poll_interval, settings.jobs.lease_seconds
    runs = services.runs
    loops = (
        run_loop,
        Loop("leases", runs.renew, interval_s=lease_s / RENEWALS_PER_LEASE, most_s=RENEW_AGAIN_S),
        Loop("expiry", runs.expire, interval_s=EXPIRE_INTERVAL_S),
        Loop("payment-changes", reconciler.changes, interval_s=poll_s),
        Loop("payment-checks", reconciler.checks, interval_s=poll_s),
        Loop("settlement", settler.tick, interval_s=poll_s),
        Loop("census", partial(take_census, services), interval_s=CENSUS_INTERVAL_S),
    )
    # Undone in reverse: no new claims, then the runs end, then their leases need no renewal.
    stack.push_async_callback(reconciler.leave_quietly)
    for loop in loops:  # not at the end of a pause that grew while it was away
        services.database.on_reached(loop.wake)
    for loop in loops[1:]:
        loop.start()
        stack.push_async_callback(loop.stop)
    stack.push_async_callback(runs.stop, within_s=settings.server.shutdown_timeout)
    run_loop.start()
    stack.push_async_callback(run_loop.stop)


async def take_census(services: Services) -> bool:
    """What there is to do, for the gauges."""
    metrics, seen = services.metrics, await census(services.database, services.repository)
    crowds = {crowd.state: crowd for crowd in seen.open}
    found = {state: crowds.get(state) for state in _OPEN}
    metrics.census.jobs({s: (c.jobs, c.oldest_s) if c else (0, 0.0) for s, c in found.items()})
    metrics.census.results(
        tightest_s=seen.settlement.tightest_s,
        stuck=seen.settlement.stuck,
        lost=seen.lost,
        paid_late=seen.late_paid,
    )
    return False
