"""The repairs lean on private names of aiopg: a new version must be read before it is taken."""

from __future__ import annotations

from importlib.metadata import version

import pytest
from aiopg.connection import Connection
from aiopg.pool import Pool

from service.database.connection import Connection as OurConnection
from service.database.pool import ConnectionPool


def test_aiopg_is_the_version_that_was_read() -> None:
    assert version("aiopg") == "1.4.0"


@pytest.mark.parametrize("name", ["_connect", "_poll", "_ready", "_close"])
def test_what_a_connection_overrides_or_calls_is_there(name: str) -> None:
    assert callable(getattr(Connection, name))
    assert issubclass(OurConnection, Connection)


@pytest.mark.parametrize("name", ["_acquire", "release", "terminate", "close", "wait_closed"])
def test_what_the_pool_overrides_or_calls_is_there(name: str) -> None:
    assert callable(getattr(Pool, name))
    assert issubclass(ConnectionPool, Pool)
