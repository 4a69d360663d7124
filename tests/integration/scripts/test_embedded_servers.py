from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest
import redis

from scripts.account import reachable_copy, server_account
from scripts.devservers import EmbeddedPostgres, EmbeddedValkey, ServersUnavailable
from scripts.loopback import LOOPBACK, environment
from tests.support.servers import execute, scratch_directory

MakePostgres = Callable[..., EmbeddedPostgres]
MakeValkey = Callable[[], EmbeddedValkey]


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_directory() as path:
        yield path


def remember(server: EmbeddedPostgres) -> None:
    execute(server.url, "CREATE TABLE memory AS SELECT 42 AS answer")


def recall(server: EmbeddedPostgres) -> object:
    with contextlib.closing(psycopg2.connect(server.url)) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT answer FROM memory")
        row = cursor.fetchone()
    return row and row[0]


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1.0):
        return True
    return False


def test_postgres_keeps_its_data_and_port_over_a_restart(private_postgres: MakePostgres) -> None:
    server = private_postgres()
    port = server.port
    remember(server)
    server.restart()
    assert (recall(server), server.port) == (42, port)


def test_killed_postgres_closes_its_port_and_recovers_its_data(
    private_postgres: MakePostgres,
) -> None:
    server = private_postgres()
    remember(server)
    server.kill()
    assert not server.alive
    assert not listens(server.port)
    server.start()
    assert recall(server) == 42


def test_open_connections_do_not_delay_a_stop(private_postgres: MakePostgres) -> None:
    server = private_postgres()
    with contextlib.closing(psycopg2.connect(server.url)) as connection:
        server.stop()
        assert not server.alive
        with pytest.raises(psycopg2.OperationalError), connection.cursor() as cursor:
            cursor.execute("SELECT 1")


def test_postgres_asks_for_its_password(private_postgres: MakePostgres) -> None:
    """Everybody on this machine can reach the port, and a superuser may start programs."""
    server = private_postgres()
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(f"postgresql://tollgate:guess@{LOOPBACK}:{server.port}/tollgate")
    assert (server.directory / "password").stat().st_mode & 0o077 == 0


def test_nothing_of_the_callers_environment_reaches_the_server(
    private_postgres: MakePostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold secrets, and PG* and LC_* variables change what the programs do."""
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("TOLLGATE_PAYMENT__API_KEY", "secret")
    variables = Path(f"/proc/{private_postgres().pid}/environ").read_bytes()
    assert b"PATH=" in variables
    assert b"PGDATESTYLE" not in variables
    assert b"secret" not in variables


def test_no_server_runs_as_root(private_postgres: MakePostgres, private_valkey: MakeValkey) -> None:
    for server in (private_postgres(), private_valkey()):
        owner = Path(f"/proc/{server.pid}").stat().st_uid
        assert owner == (server_account().uid or os.geteuid())
        assert owner != 0


def test_suspended_server_accepts_but_does_not_answer(private_valkey: MakeValkey) -> None:
    server = private_valkey()
    with redis.Redis.from_url(server.url, socket_timeout=0.2) as client:
        server.suspend()
        assert listens(server.port)
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


def test_suspended_server_can_be_stopped_in_order(private_postgres: MakePostgres) -> None:
    server = private_postgres()
    server.suspend()
    server.stop()
    assert not listens(server.port)
    assert "database system is shut down" in server.log.read_text()


def test_valkey_comes_back_empty_on_the_same_port(private_valkey: MakeValkey) -> None:
    server = private_valkey()
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert client.keys() == []


def test_valkey_refuses_rather_than_forgets_when_full(private_valkey: MakeValkey) -> None:
    with redis.Redis.from_url(private_valkey().url) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_lock_file_naming_a_stranger_is_healed(private_postgres: MakePostgres) -> None:
    """After a reboot the number of the crashed server may be that of any process of its account."""
    server = private_postgres()
    remember(server)
    server.kill()
    lock = server.data / "postmaster.pid"
    stranger = subprocess.Popen(["sleep", "60"], **server.account.popen())
    try:
        lines = lock.read_text().splitlines()
        lock.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        server.start()
        assert recall(server) == 42
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_server_orphaned_by_a_crash_is_ended_before_the_next_start(scratch: Path) -> None:
    """The keeper may be killed too; then nothing has ended the server."""
    made = EmbeddedPostgres(scratch, durable=False)
    made.start()
    made.stop()
    # As the keeper starts it, but kept by nobody.
    orphan = subprocess.Popen(
        made.command(), cwd=made.data, env=environment(), stderr=subprocess.DEVNULL,
        **made.account.popen(),
    )  # fmt: skip
    while not made.answers():
        assert orphan.poll() is None
    remember(made)
    with EmbeddedPostgres(scratch, durable=False) as successor:
        assert orphan.wait(10) is not None
        assert recall(successor) == 42


def test_half_made_cluster_is_made_anew(scratch: Path) -> None:
    """initdb that was killed leaves a directory PostgreSQL would refuse."""
    (scratch / "data" / "base").mkdir(parents=True)
    with EmbeddedPostgres(scratch, durable=False) as server:
        assert server.answers()


def test_start_that_fails_shows_the_servers_own_words(scratch: Path) -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        server = EmbeddedValkey(scratch, port=taken.getsockname()[1])
        with pytest.raises(ServersUnavailable, match="ddress already in use"):
            server.start()
    assert not server.alive


def test_what_the_servers_account_can_not_reach_is_copied_for_it(tmp_path: Path) -> None:
    private = tmp_path / "private"
    program = private / "bin" / "program"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho reached\n")
    program.chmod(0o700)
    private.chmod(0o700)
    copy = reachable_copy(private / "bin", layout=private)
    try:
        spoken = subprocess.run(
            [copy / "bin" / "program"], capture_output=True, check=True, cwd="/",
            **server_account().popen(),
        )  # fmt: skip
        assert spoken.stdout == b"reached\n"
        assert private.stat().st_mode & 0o777 == 0o700
        assert reachable_copy(private / "bin", layout=private) == copy
        # An ordinary user's servers run as that user: nothing is out of reach.
        assert (copy == private) == (os.geteuid() != 0)
    finally:
        if copy != private:
            shutil.rmtree(copy.parent)


def test_kill_reaches_every_process_of_the_server(private_postgres: MakePostgres) -> None:
    server = private_postgres()
    with contextlib.closing(psycopg2.connect(server.url)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            row = cursor.fetchone()
        assert row is not None
        server.kill()
        with pytest.raises(ProcessLookupError):
            os.kill(row[0], signal.SIG_DFL)
