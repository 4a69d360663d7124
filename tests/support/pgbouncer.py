"""A PgBouncer in transaction mode before a real PostgreSQL, set up as docs/database.md says."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2

from scripts.loopback import LOOPBACK, LoopbackServer

#: Where distributions put it, which is not on every account's path.
_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
PROGRAM = shutil.which("pgbouncer", path=_PATH)


class PgBouncer(LoopbackServer):
    """Lends ``pool_size`` connections to any number of clients, a transaction at a time."""

    name = "PgBouncer"
    program = "pgbouncer"
    stop_signals = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, directory: Path, *, before: str, pool_size: int = 4) -> None:
        super().__init__(directory)
        self._server = urlsplit(before)
        self._pool_size = pool_size

    @property
    def url(self) -> str:
        server = self._server
        return (
            f"postgresql://{server.username}:{server.password}@{LOOPBACK}:{self.port}{server.path}"
        )

    def prepare(self) -> None:
        server = self._server
        users = self.data / "users"
        users.write_text(f'"{server.username}" "{server.password}"\n')
        users.chmod(0o600)
        self.account.own(users)

    def command(self) -> list[str]:
        server, settings = self._server, self.data / "pgbouncer.ini"
        settings.write_text(
            f"""
[databases]
* = host={server.hostname} port={server.port}

[pgbouncer]
listen_addr = {LOOPBACK}
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self.data / "users"}
pool_mode = transaction
default_pool_size = {self._pool_size}
max_client_conn = 200
"""
        )
        return [str(PROGRAM), str(settings)]

    def answers(self) -> bool:
        try:
            with contextlib.closing(psycopg2.connect(self.url)):
                return True
        except psycopg2.OperationalError:
            return False
