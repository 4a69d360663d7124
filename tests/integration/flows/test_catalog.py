"""The catalog on a real database and a real cache: every name, every change, every outage."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from service.cache.cache import TieredCache
from service.database import Database, load_queries
from service.errors import ConfigurationError, DatabaseUnavailable, FlowUnavailable, UnknownFlow
from service.flows.catalog import Catalog
from service.flows.definition import FlowDefinition
from service.flows.models import ImportReport
from service.settings import CacheSettings
from service.store.client import Store

OpenCatalog = Callable[..., Awaitable[Catalog]]
AGENT = "ab" * 40


def definition(slug: str = "echo", **changes: Any) -> FlowDefinition:
    return FlowDefinition.model_validate(
        copy.deepcopy(
            {
                "slug": slug,
                "name": slug.title(),
                "version": "1.0",
                "tags": ["one", "two"],
                "default_variant": "standard",
                "runner": {"kind": "http", "target": "https://runner.example.org/echo"},
                "variants": {"standard": {"agent_identifier": AGENT}, "free": {"free": True}},
                "input_schema": {
                    "input_data": [
                        {"id": "text", "type": "text", "name": "Zoë's text"},
                        {
                            "id": "size",
                            "type": "range",
                            "name": "Size",
                            "data": {"min": 0, "max": 1, "step": 0.1},
                            "validations": [{"validation": "optional"}],
                        },
                    ]
                },
                "demo": {"input": {"text": "hello"}, "output": "hello 🚀"},
                **changes,
            }
        )
    )


@pytest.fixture
async def catalog(open_catalog: OpenCatalog) -> Catalog:
    return await open_catalog()


async def test_flow_is_found_by_every_name(catalog: Catalog) -> None:
    given = definition(name="C++ Echo Chamber")
    await catalog.store([given])
    uid = given.first_uid()
    for reference in ("echo", "ECHO", str(uid), str(uid).upper(), "C++ Echo Chamber",
                      "  c++  echo chamber "):  # fmt: skip
        flow, variant = await catalog.get(reference)
        assert (flow.uid, variant.name) == (uid, "standard")
    for reference in ("echo+free", f"{uid}+free", "C++ Echo Chamber+free", "echo free"):
        flow, variant = await catalog.get(reference)
        assert (flow.uid, variant.name) == (uid, "free")


async def test_flow_comes_back_as_it_was_defined(catalog: Catalog) -> None:
    given = definition()
    await catalog.store([given])
    flow = await catalog.by_uid(given.first_uid())
    assert flow == given.flow(given.first_uid())
    assert flow.input_schema.document() == given.input_schema.document()


@pytest.mark.parametrize(
    "reference",
    ["absent", "echo+gold", "echo+", "+free", "", " ", "a\x00b", "\ud800", "x" * 5000,
     "echo\n+free", "';--", "%(alias)s", str(UUID(int=0))],
)  # fmt: skip
async def test_anything_else_is_unknown(catalog: Catalog, reference: str) -> None:
    await catalog.store([definition()])
    with pytest.raises(UnknownFlow):
        await catalog.get(reference)


async def test_unknown_uid(catalog: Catalog) -> None:
    with pytest.raises(UnknownFlow):
        await catalog.by_uid(uuid4())


async def test_import_is_idempotent(catalog: Catalog) -> None:
    flows = [definition("b"), definition("a")]
    assert await catalog.store(flows) == ImportReport(("a", "b"), (), ())
    assert await catalog.store(flows) == ImportReport((), (), ("a", "b"))
    changed = [definition("a", description="New."), definition("b"), definition("c")]
    assert await catalog.store(changed) == ImportReport(("c",), ("a",), ("b",))


async def test_change_is_seen_at_once_and_the_uid_stays(catalog: Catalog) -> None:
    await catalog.store([definition()])
    before, _ = await catalog.get("echo")
    await catalog.store([definition(name="Echo Two", version="2.0")])
    after, _ = await catalog.get("echo")
    assert (after.uid, after.version) == (before.uid, "2.0")
    assert (await catalog.get("echo two"))[0].uid == before.uid


async def test_change_reaches_other_workers(catalog: Catalog, open_catalog: OpenCatalog) -> None:
    other = await open_catalog(local_seconds=0.0)
    await catalog.store([definition()])
    assert (await other.get("echo"))[0].version == "1.0"
    with pytest.raises(UnknownFlow):
        await other.get("second")
    assert len((await other.page(after=None, limit=10)).flows) == 1
    await catalog.store([definition(version="2.0"), definition("second")])
    assert (await other.get("echo"))[0].version == "2.0"
    assert (await other.get("second"))[0].slug == "second"
    assert len((await other.page(after=None, limit=10)).flows) == 2


async def test_name_given_up_leads_nowhere(catalog: Catalog) -> None:
    await catalog.store([definition(name="Old name")])
    await catalog.get("old name")
    await catalog.store([definition(name="New name")])
    with pytest.raises(UnknownFlow):
        await catalog.get("old name")


async def test_names_may_be_exchanged_in_one_import(catalog: Catalog) -> None:
    await catalog.store([definition("a", name="First"), definition("b", name="Second")])
    await catalog.store([definition("a", name="Second"), definition("b", name="First")])
    assert (await catalog.get("first"))[0].slug == "b"


@pytest.mark.parametrize(
    "clashing",
    [
        {"slug": "other", "name": "Echo"},
        {"slug": "other", "name": "echo  "},
        {"slug": "other", "uid": str(definition().first_uid())},
        {"slug": "other", "name": str(definition().first_uid())},
        {"slug": "echo", "uid": "1d1b5c1e-0000-4000-8000-000000000001"},
    ],
)
async def test_clash_with_what_is_stored_changes_nothing(
    catalog: Catalog, clashing: dict[str, Any]
) -> None:
    await catalog.store([definition()])
    with pytest.raises(ConfigurationError, match="echo"):
        await catalog.store([definition("innocent"), definition(**clashing)])
    assert [flow.slug for flow in (await catalog.page(after=None, limit=9)).flows] == ["echo"]
    assert (await catalog.get("echo"))[0].name == "Echo"


async def test_clash_within_one_import_changes_nothing(catalog: Catalog) -> None:
    with pytest.raises(ConfigurationError, match="already stands for"):
        await catalog.store([definition("a", name="Same"), definition("b", name="same")])
    assert (await catalog.page(after=None, limit=9)).flows == ()


async def test_imports_at_once_do_not_disturb_each_other(
    open_catalog: OpenCatalog,
) -> None:
    catalogs = [await open_catalog() for _ in range(4)]
    flows = [definition(slug) for slug in ("a", "b", "c")]
    reports = await asyncio.gather(*(catalog.store(flows) for catalog in catalogs))
    assert sorted(len(report.created) for report in reports) == [0, 0, 0, 3]


async def test_withdrawn_flow_is_not_for_sale_but_its_jobs_find_it(catalog: Catalog) -> None:
    await catalog.store([definition(), definition("kept")])
    await catalog.get("echo")
    await catalog.store([definition(enabled=False)])
    with pytest.raises(UnknownFlow):
        await catalog.get("echo")
    assert [flow.slug for flow in (await catalog.page(after=None, limit=9)).flows] == ["kept"]
    assert (await catalog.by_uid(definition().first_uid())).slug == "echo"
    await catalog.store([definition()])
    assert (await catalog.get("echo"))[0].slug == "echo"


async def test_pages_cover_all_flows_once_in_order(catalog: Catalog) -> None:
    slugs = sorted(["a", "a-b", "ab", "b2", "b-1", "z"])
    await catalog.store([definition(slug) for slug in slugs])
    seen, after, pages = [], None, 0
    while True:
        page = await catalog.page(after=after, limit=4)
        seen += [flow.slug for flow in page.flows]
        pages += 1
        if page.next is None:
            break
        after = page.next
    assert (seen, pages) == (slugs, 2)


async def test_page_that_ends_with_the_last_flow_has_no_next(catalog: Catalog) -> None:
    await catalog.store([definition("a"), definition("b")])
    assert (await catalog.page(after=None, limit=2)).next is None
    assert (await catalog.page(after="a", limit=1)).next is None
    assert (await catalog.page(after="zz", limit=2)).flows == ()


async def test_known_flows_outlast_the_database(catalog: Catalog, database: Database) -> None:
    await catalog.store([definition()])
    await catalog.get("echo")
    await catalog.page(after=None, limit=9)
    await database.close()
    assert (await catalog.get("echo+free"))[0].slug == "echo"
    assert len((await catalog.page(after=None, limit=9)).flows) == 1
    with pytest.raises(UnknownFlow):  # all names are known, and this is none of them
        await catalog.get("never-asked-for")


async def test_without_list_and_database_nobody_can_say_what_is_unknown(
    catalog: Catalog, database: Database
) -> None:
    await database.close()
    with pytest.raises(DatabaseUnavailable):
        await catalog.get("never-asked-for")


async def test_value_in_another_form_is_read_from_the_database(
    catalog: Catalog, store: Store, open_catalog: OpenCatalog
) -> None:
    given = definition()
    await catalog.store([given])

    async def foreign() -> bytes:
        return b'{"form":99,"pickle":"?"}'

    other = TieredCache(store, CacheSettings(), namespace="flow")
    await other.get(f"uid:{given.first_uid()}", foreign)
    await other.close()
    assert (await (await open_catalog()).get("echo"))[0].slug == "echo"


async def test_stored_flow_that_breaks_newer_rules_is_said_to_be_unreadable(
    catalog: Catalog, database: Database
) -> None:
    await catalog.store([definition(), definition("sound")])
    await database.execute(
        "UPDATE flows SET definition = definition || '{\"colour\": 1}' WHERE slug = 'echo'"
    )
    for _ in range(3):
        with pytest.raises(FlowUnavailable):
            await catalog.get("echo")
    assert [flow.slug for flow in (await catalog.page(after=None, limit=9)).flows] == ["sound"]


async def test_every_statement_fits_the_schema(database: Database) -> None:
    queries = load_queries("service.flows")
    values: dict[str, Any] = {
        "uid": str(uuid4()), "uids": [str(uuid4())], "alias": "a", "aliases": ["a"], "slug": "a",
        "slugs": ["a"], "piece_flows": 100, "mark_bytes": 8, "first": "a", "following": None,
        "lock": 1, "rows": "[]",
    }  # fmt: skip
    for name in queries:
        assert await database.fetch(f"EXPLAIN {getattr(queries, name)}", values), name
