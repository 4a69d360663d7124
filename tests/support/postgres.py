"""PostgreSQL asked from outside of what is tested, over a connection of its own."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg2


def ask(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of one statement."""
    with contextlib.closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def active(url: str, *, containing: str) -> int:
    """How many sessions of this database run a statement with these words."""
    [(count,)] = ask(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
        f" AND datname = current_database() AND query LIKE '%{containing}%'",
    )
    return int(count)


def kill_sessions(url: str) -> int:
    """End every other session of this database, and return when they are gone; how many it was."""
    killed = ask(
        url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    return len(killed)
