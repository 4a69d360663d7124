"""Named SQL statements from a package's ``queries.sql``.

    -- name: claim_jobs (batch)
    -- Takes up to %(limit)s jobs that nobody works on.
    UPDATE jobs SET ...

A statement runs from its header to the next one. Beside the name stands its class (``classes``);
the second line says in one sentence what it is for; the file's own heading stands before the first
header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources

from service.database.classes import Statement, StatementClass
from service.errors import ConfigurationError

_HEADER = re.compile(r"^--[ \t]*name:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_NAME = re.compile(r"(.*?)[ \t]*(?:\((.*)\))?")
_PURPOSE = re.compile(r"\A\s*--[ \t]*\S.*$", re.MULTILINE)


class Queries:
    """Statements as attributes: ``queries.claim_jobs``; iterating gives their names."""

    def __init__(self, statements: Mapping[str, Statement], *, origin: str = "queries") -> None:
        self._statements = dict(statements)
        self._origin = origin

    def __getattr__(self, name: str) -> Statement:
        try:
            return self._statements[name]
        except KeyError:
            raise AttributeError(f"{self._origin} has no statement named {name}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __repr__(self) -> str:
        return f"<Queries {self._origin}: {', '.join(self._statements)}>"


def load_queries(package: str, resource: str = "queries.sql") -> Queries:
    """Read a package's statements; raises ConfigurationError naming what is wrong in the file."""
    origin = f"{package}/{resource}"
    text = resources.files(package).joinpath(resource).read_text(encoding="utf-8")
    return Queries(parse_queries(text, origin=origin), origin=origin)


def parse_queries(text: str, *, origin: str = "queries") -> dict[str, Statement]:
    """The statements of one file, by name, as they are sent: without header and last semicolon."""
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    statements: dict[str, Statement] = {}
    for header, end in zip(headers, ends, strict=True):
        body = text[header.end() : end]
        name, kind = (_NAME.fullmatch(header[1]) or header).groups()
        if not name.isidentifier():
            raise ConfigurationError(f"{origin}: {name!r} cannot be the name of a statement")
        if name in statements:
            raise ConfigurationError(f"{origin}: there are two statements named {name}")
        if not (purpose := _PURPOSE.match(body)):
            raise ConfigurationError(f"{origin}: {name} does not say what it is for")
        statement = body[purpose.end() :].strip().rstrip(";").rstrip()
        if not statement:
            raise ConfigurationError(f"{origin}: {name} has no statement")
        statements[name] = Statement(statement, name=name, kind=_kind(kind, name, origin))
    return statements


def _kind(text: str | None, name: str, origin: str) -> StatementClass:
    try:
        return StatementClass(text or "")
    except ValueError:
        classes = ", ".join(StatementClass)
        raise ConfigurationError(
            f"{origin}: {name} must name its class, one of {classes}: -- name: {name} (quick)"
        ) from None
