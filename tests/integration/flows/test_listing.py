"""The list of ten thousand flows, and all their names: what it costs, and that it is true."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from service.database import Database
from service.errors import UnknownFlow
from service.flows.catalog import Catalog
from service.flows.definition import FlowDefinition
from service.flows.repository import FlowRepository
from service.store.client import Store

OpenCatalog = Callable[..., Awaitable[Catalog]]
MANY = 10_000


def definition(slug: str, **changes: Any) -> FlowDefinition:
    return FlowDefinition.model_validate(
        copy.deepcopy(
            {
                "slug": slug,
                "name": f"Name of {slug}",
                "version": "1.0",
                "default_variant": "free",
                "runner": {"kind": "http", "target": "https://runner.example.org/echo"},
                "variants": {"free": {"free": True}},
                "input_schema": {"input_data": [{"id": "text", "type": "text"}]},
                "demo": {"input": {"text": "hello"}, "output": "hello"},
                **changes,
            }
        )
    )


class Asked:
    """Counts what is asked of the database."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        for name in ("uid_of", "find", "index", "piece"):
            monkeypatch.setattr(FlowRepository, name, self._counting(name))

    def _counting(self, name: str) -> Any:
        plain = getattr(FlowRepository, name)

        async def counted(*args: Any) -> Any:
            self.names.append(name)
            return await plain(*args)

        return counted

    def since(self) -> list[str]:
        """Sorted, and forgotten."""
        asked, self.names = sorted(self.names), []
        return asked


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


async def fill(database: Database, number: int) -> None:
    """As an import would, by copying one flow."""
    await database.execute(
        "INSERT INTO flows (uid, slug, name, definition, digest)"
        " SELECT gen_random_uuid(), slug, 'Name of ' || slug,"
        "        definition || jsonb_build_object('slug', slug, 'name', 'Name of ' || slug), 'd'"
        "   FROM (SELECT 'flow-' || lpad(n::text, 5, '0') AS slug"
        "           FROM generate_series(1, %(number)s) n) numbered,"
        "        (SELECT definition FROM flows LIMIT 1) model",
        {"number": number},
    )
    await database.execute(
        "INSERT INTO flow_aliases (alias, flow_uid)"
        " SELECT unnest(ARRAY[uid::text, slug, lower(name)]), uid FROM flows"
        " ON CONFLICT DO NOTHING"
    )


async def slugs(catalog: Catalog, *, limit: int, after: str | None = None) -> list[list[str]]:
    """Page by page, to the end."""
    pages = []
    while True:
        page = await catalog.page(after=after, limit=limit)
        pages.append([flow.slug for flow in page.flows])
        after = page.next
        if after is None:
            return pages


async def test_ten_thousand_flows_cost_one_query_and_one_for_each_hundred(
    open_catalog: OpenCatalog, database: Database, asked: Asked
) -> None:
    await (await open_catalog()).store([definition("a-model")])
    await fill(database, MANY)
    catalog = await open_catalog(fresh_seconds=300)
    await catalog._cache.invalidate(["index"])
    asked.since()
    first = await catalog.page(after=None, limit=20)
    assert [flow.slug for flow in first.flows[:3]] == ["a-model", "flow-00001", "flow-00002"]
    assert asked.since() == ["index", "piece"]
    middle = await catalog.page(after="flow-05000", limit=100)
    assert [flow.slug for flow in middle.flows] == [f"flow-{n:05d}" for n in range(5001, 5101)]
    assert set(asked.since()) == {"piece"}
    last = await catalog.page(after=f"flow-{MANY - 1:05d}", limit=100)
    assert ([flow.slug for flow in last.flows], last.next) == ([f"flow-{MANY:05d}"], None)
    asked.since()
    # Whatever is asked for again, by whatever name, is there; what is not, costs nothing either.
    other = await open_catalog()
    for reader in (catalog, other):
        assert (await reader.page(after=None, limit=20)).flows == first.flows
        assert (await reader.page(after="flow-05000", limit=100)).flows == middle.flows
        for _ in range(MANY):
            with pytest.raises(UnknownFlow):
                await reader.get(f"no-{uuid4()}")
    assert asked.since() == []
    assert reader._cache.statistics().local.entries < 10
    for reference in ("flow-07777", "Name of  FLOW-07777"):
        assert (await catalog.get(reference))[0].slug == "flow-07777"
    assert asked.since() == ["find", "uid_of", "uid_of"]
    # A change makes one piece old.
    await database.execute("UPDATE flows SET updated_at = now() WHERE slug = 'flow-05050'")
    await catalog._cache.invalidate(["index"])
    await catalog.page(after=None, limit=20)
    assert asked.since() == ["index"]
    await catalog.page(after="flow-05000", limit=100)
    assert asked.since() == ["piece"]


async def test_pages_of_any_size_cover_all_flows_once_in_order(open_catalog: OpenCatalog) -> None:
    catalog = await open_catalog()
    everything = sorted(f"{a}{b}-{n}" for a, b, n in itertools.product("az", "b0", range(60)))
    await catalog.store([definition(slug) for slug in everything])
    for limit in (1, 7, 50, 99, 100):
        pages = await slugs(catalog, limit=limit)
        assert [slug for page in pages for slug in page] == everything
        assert {len(page) for page in pages[:-1]} <= {limit}
    for after in ("", "a", "a0-5", "a0-50", "a0-500", "m", "zz", everything[-1]):
        (page, *_) = await slugs(catalog, limit=100, after=after)
        assert page == [slug for slug in everything if slug > after][:100]


async def test_unreadable_flows_leave_no_holes(
    open_catalog: OpenCatalog, database: Database
) -> None:
    catalog = await open_catalog()
    await catalog.store([definition(f"f-{n:03d}") for n in range(250)])
    await database.execute(
        "UPDATE flows SET definition = definition || '{\"colour\": 1}'"
        " WHERE slug BETWEEN 'f-050' AND 'f-219'"
    )
    await catalog._cache.invalidate(["index"])
    pages = await slugs(catalog, limit=40)
    readable = [n for n in range(250) if not 50 <= n <= 219]
    assert [slug for page in pages for slug in page] == [f"f-{n:03d}" for n in readable]
    assert len(pages[0]) == len(pages[1]) == 40


async def test_piece_that_changed_since_the_index_was_read_is_not_kept_as_what_it_was(
    open_catalog: OpenCatalog, database: Database
) -> None:
    catalog = await open_catalog()
    await catalog.store([definition("a"), definition("c")])
    pieces = (await catalog._listing._index())[0].pieces
    # Changed, and nobody is told.
    await database.execute(
        "INSERT INTO flows (uid, slug, name, definition, digest)"
        " SELECT gen_random_uuid(), 'b', 'B',"
        '        definition || \'{"slug": "b", "name": "B"}\', \'d\''
        "   FROM flows WHERE slug = 'a'"
    )
    # Read by an index from before: the page is true, and the index is made old for everybody.
    assert await slugs(catalog, limit=9) == [["a", "b", "c"]]
    assert await slugs(catalog, limit=2) == [["a", "b"], ["c"]]
    assert (await (await open_catalog())._listing._index())[0].pieces != pieces
    # It is as it was: so is its digest, and under that there must not stand what was read between.
    await database.execute("DELETE FROM flows WHERE slug = 'b'")
    await catalog._cache.invalidate(["index"])
    assert (await catalog._listing._index())[0].pieces == pieces
    assert await slugs(catalog, limit=9) == [["a", "c"]]


async def test_page_that_is_read_while_the_list_changes_misses_nothing(
    open_catalog: OpenCatalog, database: Database
) -> None:
    catalog, writer = await open_catalog(), await open_catalog()
    stable = [f"s-{n:03d}" for n in range(120)]
    await catalog.store([definition(slug) for slug in stable])
    stop = asyncio.Event()

    async def change() -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            coming = [definition(f"s-{number % 119:03d}-more", version=f"{number}.0")]
            await writer.store(coming)
            await catalog._cache.invalidate(["index"])

    changing = asyncio.create_task(change())
    try:
        for _ in range(15):
            seen = [slug for page in await slugs(catalog, limit=50) for slug in page]
            assert [slug for slug in seen if not slug.endswith("more")] == stable
            assert seen == sorted(seen)
    finally:
        stop.set()
        await changing


async def test_new_name_is_known_as_soon_as_it_is_stored(open_catalog: OpenCatalog) -> None:
    catalog, other = await open_catalog(), await open_catalog()
    await other.store([definition("first")])
    for reader in (catalog, other):
        with pytest.raises(UnknownFlow):
            await reader.get("second")
    await other.store([definition("second")])
    assert (await other.get("second"))[0].slug == "second"
    catalog._cache.drop()  # what the other worker's word does
    assert (await catalog.get("Name of SECOND"))[0].slug == "second"


async def test_old_pieces_are_cleared_away(open_catalog: OpenCatalog, store: Store) -> None:
    catalog = await open_catalog()
    for number in range(6):
        await catalog.store([definition("only", version=f"{number}.0")])
        await catalog.page(after=None, limit=9)
    values = [key async for key in store.client.scan_iter("*list:*") if b"fence" not in key]
    assert len(values) == 1
