"""Redis servers of a chosen make: the embedded Valkey, or Debian's redis-server where it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from scripts.account import server_account
from scripts.loopback import free_port
from scripts.valkey import EmbeddedValkey
from tests.support.servers import scratch_directory
from tests.support.tls import Authority, Certificate


@dataclass(frozen=True, slots=True)
class Encryption:
    """Who shows this certificate and asks for one of the same authority."""

    authority: Certificate
    own: Certificate

    def arguments(self) -> tuple[str, ...]:
        return (
            *("--tls-cert-file", str(self.own.file), "--tls-key-file", str(self.own.key)),
            *("--tls-ca-cert-file", str(self.authority.file), "--tls-auth-clients", "yes"),
            *("--tls-replication", "yes", "--tls-cluster", "yes"),
        )


@dataclass(frozen=True, slots=True)
class Make:
    name: str
    #: None: the embedded one.
    binary: str | None = None
    #: Speaks TLS to clients and to its like; tests administer it without.
    tls: Encryption | None = None

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


#: The embedded Valkey has no TLS.
needs_tls_server = pytest.mark.skipif(
    _DEBIANS is None, reason="no redis-server on PATH (apt-get install redis-server)"
)


@contextmanager
def encrypted(subject: str) -> Iterator[tuple[Make, Authority]]:
    """Debian's redis-server with a certificate for ``subject``, and who issued it."""
    with scratch_directory() as home:
        authority = Authority(home, "authority")
        own = authority.issue("server", subject)
        for file in (own.file, own.key, authority.root.file):
            server_account().own(file)
        yield Make("redis", _DEBIANS, Encryption(authority.root, own)), authority


class MadeServer(EmbeddedValkey):
    """With further arguments, on 127.0.0.1 as ever."""

    def __init__(self, directory: Path, make: Make, *more: str) -> None:
        super().__init__(directory)
        self.program = Path(make.binary).name if make.binary else EmbeddedValkey.program
        self._make = make
        self.more = more
        self._tls_port = 0

    def choose_ports(self) -> None:
        super().choose_ports()
        self._tls_port = free_port() if self._make.tls else 0

    @property
    def told_port(self) -> int:
        """Where clients, replicas and sentinels are sent."""
        return self._tls_port or self.port

    def command(self) -> list[str]:
        embedded, *rest = super().command()
        return [self._make.binary or embedded, *rest, *self._encryption(), *self.more]

    def _encryption(self) -> tuple[str, ...]:
        tls = self._make.tls
        return ("--tls-port", str(self._tls_port), *tls.arguments()) if tls else ()
