"""Real servers for tests: one pair for the whole session, and own ones for tests that kill."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import psycopg2.errors

from scripts.account import scratch
from scripts.devservers import EmbeddedPostgres, EmbeddedValkey
from service.database.migrate import migrate as apply_migrations
from service.settings import DatabaseSettings

TEMPLATE = "migrated"


class Servers:
    """One PostgreSQL (careless about durability) and one Valkey, each started when first needed."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._home = self._stack.enter_context(scratch_directory())
        self._numbers = itertools.count()
        #: Databases nobody needs any more.
        self._used: list[str] = []
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None

    def close(self) -> None:
        self._stack.close()

    @property
    def postgres(self) -> EmbeddedPostgres:
        if self._postgres is None:
            started = self.private_postgres()
            execute(started.url_of("postgres"), f"CREATE DATABASE {TEMPLATE}")
            migrate(started.url_of(TEMPLATE))
            self._postgres = started
        return self._postgres

    @property
    def valkey(self) -> EmbeddedValkey:
        if self._valkey is None:
            self._valkey = self.private_valkey()
        return self._valkey

    @property
    def database_url(self) -> str:
        """The superuser's, of an empty database."""
        return self.postgres.url

    @property
    def redis_url(self) -> str:
        return self.valkey.url

    def flush(self) -> None:
        address = urlsplit(self.redis_url)
        with socket.create_connection((address.hostname or "", address.port or 0), 5) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(16) == b"+OK\r\n"

    @contextlib.contextmanager
    def cloned_database(self) -> Iterator[str]:
        """URL of a fresh database with the whole schema, dropped afterwards."""
        name, admin = f"test_{next(self._numbers)}", self.postgres.url_of("postgres")
        # Through the log, as is the default, it takes half as long again.
        execute(admin, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        try:
            yield self.postgres.url_of(name)
        finally:
            self._used.append(name)
            self._drop_used(admin)

    def _drop_used(self, admin: str) -> None:
        """Dropping waits for every backend there is, also for one that a test left stuck.

        That is not the next test's affair: what cannot go now goes later, or with the server.
        """
        for name in list(self._used):
            try:
                execute(admin, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", limit_s=5)
            except psycopg2.errors.QueryCanceled:
                return
            self._used.remove(name)

    def private_postgres(self, *, max_connections: int = 200) -> EmbeddedPostgres:
        """A started one of the caller's own; ended with the session at the latest."""
        directory = self._home / f"postgres-{next(self._numbers)}"
        server = EmbeddedPostgres(directory, durable=False, max_connections=max_connections)
        return self._stack.enter_context(server)

    def private_valkey(self) -> EmbeddedValkey:
        server = EmbeddedValkey(self._home / f"valkey-{next(self._numbers)}")
        return self._stack.enter_context(server)


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """Reachable by the account the servers run under, which pytest's own tmp_path is not."""
    path = scratch()
    try:
        yield path
    finally:
        shutil.rmtree(path)


def execute(url: str, statement: str, *, limit_s: int = 0) -> None:
    options = f"-c statement_timeout={limit_s}s"
    with contextlib.closing(psycopg2.connect(url, options=options)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)


def migrate(url: str) -> None:
    """Apply every migration; also from inside a running event loop."""
    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(apply_migrations(url, DatabaseSettings()))).result()
