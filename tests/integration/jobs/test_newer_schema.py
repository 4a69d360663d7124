"""After a roll back this version works on the schema of a later one, which may only have added."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from service.jobs.models import JobState
from tests.support.house import House, flow_definition
from tests.support.postgres import ask
from tests.support.servers import execute

MakeHouse = Callable[..., Awaitable[House]]
#: What a later migration may do: columns of tables there are, tables, indexes.
LATER = """
    ALTER TABLE {table} ADD COLUMN later_text text;
    ALTER TABLE {table} ADD COLUMN later_number int NOT NULL DEFAULT 7;
"""


async def test_a_sale_from_purchase_to_settlement(make_house: MakeHouse, database_url: str) -> None:
    tables = [name for (name,) in ask(database_url, "SELECT tablename FROM pg_tables"
                                                    " WHERE schemaname = 'public'")]  # fmt: skip
    assert {"flows", "jobs"} <= set(tables)
    for table in tables:
        execute(database_url, LATER.format(table=table))
    execute(database_url, "CREATE TABLE later (a int PRIMARY KEY)")
    execute(
        database_url,
        "INSERT INTO schema_migrations (name, digest) VALUES ('0999_later', 'another')",
    )

    home = await make_house(flow_definition("echo"))
    job = (await home.start()).job
    await home.pay(job.id)
    await home.run_all()
    assert (await home.job(job.id)).state is JobState.COMPLETED
    await home.make_due(job.id)
    await home.settler().tick()
    [payment] = home.payments_of(job.id)
    assert len(payment.submitted) == 1
