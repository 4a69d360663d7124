"""Workers that follow the changes of flows, and those who make the changes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from service.cache.cache import TieredCache
from service.database import Database
from service.database.listener import Listener
from service.errors import UnknownFlow
from service.flows.cached import NAMESPACE
from service.flows.catalog import Catalog
from service.flows.changes import FlowChanges, Hearing
from service.store import keys
from service.store.client import Store
from service.store.subscription import Subscription
from tests.support.ear import Ear
from tests.support.postgres import ask
from tests.support.waiting import until


@dataclass
class Worker:
    """What one process has of all this."""

    store: Store
    database: Database
    cache: TieredCache
    listener: Listener
    changes: FlowChanges
    catalog: Catalog
    registry: CollectorRegistry

    async def version(self, slug: str = "echo") -> str | None:
        try:
            return (await self.catalog.get(slug))[0].version
        except UnknownFlow:
            return None

    async def until(self, version: str | None, slug: str = "echo") -> None:
        async def read() -> bool:
            return await self.version(slug) == version

        await until(read, what=f"{slug} in version {version}")

    async def until_hearing(self, *, postgres: bool, redis: bool) -> None:
        await until(lambda: self.changes.hearing == Hearing(postgres, redis))

    def heard(self, channel: str) -> float:
        name = "tollgate_flow_changes_heard_total"
        return self.registry.get_sample_value(name, {"channel": channel}) or 0.0


Hire = Callable[..., Awaitable[Worker]]


async def overhear(store: Store) -> tuple[Ear, Subscription]:
    """Whatever the workers tell each other from now on; the subscription is to be stopped."""
    ear = Ear(keys.cache_channel(NAMESPACE))
    subscription = store.subscription(ear.channel, ear.heard.append, gap=ear.gap)
    await subscription.start()
    await ear.until("gap")
    return ear, subscription


async def scripts_run(store: Store) -> int:
    seen = await store.client.info("commandstats")
    return int(seen["cmdstat_evalsha"]["calls"])


def write(url: str, version: str, where: str = "slug = 'echo'") -> None:
    ask(
        url,
        f"UPDATE flows SET definition = jsonb_set(definition, '{{version}}', '\"{version}\"')"
        f" WHERE {where}",
    )
