"""Redis servers of a chosen make: the embedded Valkey, or Debian's redis-server where it is."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.valkey import EmbeddedValkey


@dataclass(frozen=True, slots=True)
class Make:
    name: str
    #: None: the embedded one.
    binary: str | None = None

    def __str__(self) -> str:
        return self.name


VALKEY = Make("valkey")
_DEBIANS = shutil.which("redis-server")
#: For a fixture's ``params``; the second is skipped where it is not installed.
MAKES = [
    pytest.param(VALKEY, id="valkey"),
    pytest.param(
        Make("redis", _DEBIANS),
        id="redis",
        marks=pytest.mark.skipif(
            _DEBIANS is None, reason="no redis-server on PATH (apt-get install redis-server)"
        ),
    ),
]


class MadeServer(EmbeddedValkey):
    """With further arguments, on 127.0.0.1 as ever."""

    def __init__(self, directory: Path, make: Make, *more: str) -> None:
        super().__init__(directory)
        self.program = Path(make.binary).name if make.binary else EmbeddedValkey.program
        self._make = make
        self.more = more

    def command(self) -> list[str]:
        embedded, *rest = super().command()
        return [self._make.binary or embedded, *rest, *self.more]
