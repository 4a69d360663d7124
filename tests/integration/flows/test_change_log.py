"""Whatever changes a flow, the database itself writes it down and tells it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2
import pytest

from tests.support.postgres import ask
from tests.support.servers import Servers

ONE, TWO, THREE = (f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2, 3))


@dataclass
class Told:
    """What changes are about, by the table and by the notifications."""

    changes: int
    written: tuple[set[str], set[str]]
    heard: tuple[set[str], set[str]]


class Book:
    """A database with two flows of one name each, and somebody who listens."""

    def __init__(self, url: str, listening: Any) -> None:
        self.url = url
        self._listening = listening
        ask(url, "TRUNCATE flows, flow_aliases, flow_changes CASCADE")
        for uid, slug in ((ONE, "one"), (TWO, "two")):
            ask(url, f"INSERT INTO flows VALUES ('{uid}', '{slug}', '{slug}', '{{}}', 'd', true)")
            ask(url, f"INSERT INTO flow_aliases VALUES ('{slug}', '{uid}')")
        self._heard()

    def change(self, *statements: str) -> Told:
        """Run these in one transaction; what was written down and told of it."""
        before = {change for change, *_ in self._rows()}
        ask(self.url, "BEGIN; " + "; ".join(statements) + "; COMMIT")
        rows = [row for row in self._rows() if row[0] not in before]
        heard = [json.loads(payload) for payload in self._heard()]
        assert {told["change"] for told in heard} == {change for change, *_ in rows}
        return Told(
            len(rows),
            _together([(uids, aliases) for _, uids, aliases in rows]),
            _together([(told["uids"], told["aliases"]) for told in heard if "uids" in told]),
        )

    def _rows(self) -> list[tuple[Any, ...]]:
        return ask(self.url, "SELECT change::text, uids::text[], aliases FROM flow_changes")

    def _heard(self) -> list[str]:
        # An answer comes after everything that was told before it was asked for.
        with self._listening.cursor() as cursor:
            cursor.execute("SELECT 1")
        heard = [notification.payload for notification in self._listening.notifies]
        self._listening.notifies.clear()
        return heard


def _together(parts: list[tuple[list[str], list[str]]]) -> tuple[set[str], set[str]]:
    uids = {uid for some, _ in parts for uid in some}
    return uids, {alias for _, some in parts for alias in some}


@pytest.fixture(scope="module")
def listening(servers: Servers) -> Iterator[Any]:
    with servers.cloned_database() as url, closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("LISTEN tollgate_flows")
        yield connection


@pytest.fixture
def book(listening: Any, servers: Servers) -> Book:
    return Book(servers.postgres.url_of(listening.info.dbname), listening)


SAVE = (
    f"INSERT INTO flows VALUES ('{THREE}', 'one', 'other', '{{}}', 'e', true)"
    " ON CONFLICT (slug) DO UPDATE SET digest = EXCLUDED.digest"
)


@pytest.mark.parametrize(
    ("statement", "uids", "aliases"),
    [
        ("UPDATE flows SET name = 'x' WHERE slug = 'one'", {ONE}, set()),
        ("UPDATE flows SET definition = '{\"a\": 1}'", {ONE, TWO}, set()),
        ("UPDATE flows SET enabled = false WHERE slug = 'one'", {ONE}, {"one"}),
        (f"INSERT INTO flows VALUES ('{THREE}', 'three', 'n', '{{}}', 'd')", {THREE}, set()),
        (SAVE, {ONE}, set()),
        (f"INSERT INTO flow_aliases VALUES ('uno', '{ONE}')", set(), {"uno"}),
        ("UPDATE flow_aliases SET alias = 'eins' WHERE alias = 'one'", set(), {"one", "eins"}),
        (f"UPDATE flow_aliases SET flow_uid = '{TWO}' WHERE alias = 'one'", set(), {"one"}),
        ("DELETE FROM flow_aliases WHERE alias = 'one'", set(), {"one"}),
        ("DELETE FROM flows WHERE slug = 'one'", {ONE}, {"one"}),
        ("DELETE FROM flows", {ONE, TWO}, {"one", "two"}),
        ("TRUNCATE flows CASCADE", {ONE, TWO}, {"one", "two"}),
        ("TRUNCATE flow_aliases", set(), {"one", "two"}),
        ("SET LOCAL session_replication_role = replica; UPDATE flows SET name = 'x'", {ONE, TWO},
         set()),
        (f"COPY flow_aliases FROM PROGRAM 'printf \"uno\\t{ONE}\\n\"'", set(), {"uno"}),
    ],
)  # fmt: skip
def test_every_way_of_changing_flows_is_written_down_and_told(
    book: Book, statement: str, uids: set[str], aliases: set[str]
) -> None:
    told = book.change(statement)
    assert told.written == (uids, aliases)
    assert told.heard == (uids, aliases)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE flows SET name = 'x' WHERE slug = 'nobody'",
        "DELETE FROM flow_aliases WHERE false",
        "SAVEPOINT a; UPDATE flows SET name = 'x'; ROLLBACK TO a",
    ],
)
def test_what_changes_nothing_tells_nothing(book: Book, statement: str) -> None:
    assert book.change(statement).changes == 0


def test_a_change_too_large_to_be_told_is_told_to_be_looked_up(book: Book) -> None:
    told = book.change(
        "INSERT INTO flow_aliases"
        f" SELECT repeat('ü', 100) || i, '{ONE}' FROM generate_series(1, 5000) i"
    )
    assert told.heard == (set(), set())
    assert len(told.written[1]) == 5000


def test_no_size_of_a_change_is_refused(book: Book) -> None:
    heard_whole = []
    for length in range(125, 141):
        names = f"SELECT repeat(chr(34), {length}) || i, '{ONE}' FROM generate_series(10, 38) i"
        told = book.change(f"INSERT INTO flow_aliases {names}")
        assert len(told.written[1]) == 29
        heard_whole.append(bool(told.heard[1]))
    assert heard_whole == sorted(heard_whole, reverse=True)
    assert heard_whole[0]
    assert not heard_whole[-1]


def test_one_who_may_change_flows_and_nothing_else_can_change_them(book: Book) -> None:
    role = "flow_editor_" + book.url.rpartition("/")[2]
    ask(book.url, f"CREATE ROLE {role}")
    try:
        ask(book.url, f"GRANT SELECT, UPDATE ON flows TO {role}")
        # A table of the same name in front of ours must not be taken for it.
        told = book.change(
            "CREATE TEMP TABLE flow_changes (change uuid)",
            f"GRANT ALL ON pg_temp.flow_changes TO {role}",
            f"SET LOCAL ROLE {role}",
            "UPDATE flows SET name = 'x' WHERE slug = 'two'",
        )
        assert told.heard == ({TWO}, set())
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="for function"):
            ask(book.url, f"SET ROLE {role}; SELECT tell_flow_change('{{}}', '{{a}}')")
    finally:
        ask(book.url, f"DROP OWNED BY {role}; DROP ROLE {role}")
