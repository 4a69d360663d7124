"""Named SQL statements from a package's ``queries.sql``.

    -- name: claim_jobs
    -- Takes up to %(limit)s jobs that nobody works on.
    UPDATE jobs SET ...

A statement runs from its header to the next one. The second line says in one sentence what it is
for; the file's own heading stands before the first header.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources

from service.errors import ConfigurationError

_HEADER = re.compile(r"^--[ \t]*name:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_PURPOSE = re.compile(r"\A\s*--[ \t]*\S.*$", re.MULTILINE)


class Queries:
    """Statements as attributes: ``queries.claim_jobs``; iterating gives their names."""

    def __init__(self, statements: Mapping[str, str], *, origin: str = "queries") -> None:
        self._statements = dict(statements)
        self._origin = origin

    def __getattr__(self, name: str) -> str:
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


def parse_queries(text: str, *, origin: str = "queries") -> dict[str, str]:
    """The statements of one file, by name, as they are sent: without header and last semicolon."""
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    statements: dict[str, str] = {}
    for header, end in zip(headers, ends, strict=True):
        name, body = header[1], text[header.end() : end]
        if not name.isidentifier():
            raise ConfigurationError(f"{origin}: {name!r} cannot be the name of a statement")
        if name in statements:
            raise ConfigurationError(f"{origin}: there are two statements named {name}")
        if not (purpose := _PURPOSE.match(body)):
            raise ConfigurationError(f"{origin}: {name} does not say what it is for")
        statements[name] = body[purpose.end() :].strip().rstrip(";").rstrip()
        if not statements[name]:
            raise ConfigurationError(f"{origin}: {name} has no statement")
    return statements
