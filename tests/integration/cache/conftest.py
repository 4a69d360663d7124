"""What is behind the caches under test."""

from __future__ import annotations

import pytest

from tests.support.cache import Database


@pytest.fixture
def database() -> Database:
    return Database()
