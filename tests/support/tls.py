"""Certificates of an authority of our own, and a server's end of TLS for servers that have none."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

OPENSSL = shutil.which("openssl")
needs_openssl = pytest.mark.skipif(OPENSSL is None, reason="no openssl on PATH")
_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Certificate:
    """``key`` is the certificate's own."""

    file: Path
    key: Path


class Authority:
    """Issues certificates into a directory."""

    def __init__(self, home: Path, name: str) -> None:
        self._home = home
        self.root = Certificate(home / f"{name}.pem", home / f"{name}.key")
        _openssl(
            *("req", "-x509", "-subj", f"/CN={name}", "-days", "2", *_new_key(self.root.key)),
            *("-out", str(self.root.file)),
        )

    def issue(self, name: str, subject: str) -> Certificate:
        """``subject`` as X.509 says it: IP:127.0.0.1 or DNS:cache.example."""
        made = Certificate(self._home / f"{name}.pem", self._home / f"{name}.key")
        request, extension = self._home / f"{name}.csr", self._home / f"{name}.ext"
        extension.write_text(f"subjectAltName={subject}\n")
        _openssl("req", "-subj", f"/CN={name}", *_new_key(made.key), "-out", str(request))
        _openssl(
            *("x509", "-req", "-in", str(request), "-days", "2", "-extfile", str(extension)),
            *("-CA", str(self.root.file), "-CAkey", str(self.root.key), "-CAcreateserial"),
            *("-out", str(made.file)),
        )
        return made


@asynccontextmanager
async def tls_front(
    port: int, certificate: Certificate, *, clients_of: Path | None = None
) -> AsyncIterator[int]:
    """A port that speaks TLS before one that does not; with ``clients_of``, only to its clients."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.file, certificate.key)
    if clients_of:
        context.load_verify_locations(clients_of)
        context.verify_mode = ssl.CERT_REQUIRED
    pumps: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", port)
        for ends in ((reader, back_writer), (back_reader, writer)):
            task = asyncio.create_task(pump(*ends))
            pumps.add(task)
            task.add_done_callback(pumps.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(pumps):
            task.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


def _new_key(file: Path) -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(file))


def _openssl(*arguments: str) -> None:
    assert OPENSSL
    subprocess.run([OPENSSL, *arguments], check=True, capture_output=True)
