"""What ``tollgate serve`` looks at before its workers start."""

from __future__ import annotations

from pydantic import SecretStr
from structlog.testing import capture_logs

from service.cli.serve import _look_at_database
from service.settings import DatabaseSettings, Settings
from tests.support.servers import execute


async def test_a_database_that_refuses_to_be_looked_at_stops_no_start(database_url: str) -> None:
    # As for a login that may use the tables of the service, and not the list of its migrations.
    execute(database_url, "ALTER TABLE schema_migrations RENAME COLUMN name TO hidden")
    settings = Settings(database=DatabaseSettings(url=SecretStr(database_url)))
    with capture_logs() as logs:
        await _look_at_database(settings)
    assert [line["event"] for line in logs][-1] == "database_not_looked_at"
