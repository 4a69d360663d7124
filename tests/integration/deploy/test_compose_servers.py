"""The servers of compose.yaml, as far as they are here: with its files and its command lines."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from scripts.fleet import balancer
from scripts.loopback import free_port
from scripts.valkey import _program as valkey_program
from service.settings import RedisSettings
from service.store.client import Store
from tests.support.deployment import ROOT, documents
from tests.support.promtool import needed as needs_promtool
from tests.support.promtool import promtool
from tests.support.waiting import eventually

(COMPOSE,) = documents("compose.yaml")
PAGE = (ROOT / "docs/operations.md").read_text()


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the script in docs/operations.md makes."""
    (script,) = re.findall(r"(?s)```sh\n(\(umask 022; .*?)```", PAGE)
    folder = tmp_path_factory.mktemp("place")
    subprocess.run(["/bin/sh", "-euc", script], cwd=folder, check=True)
    return folder / "secrets"


@pytest.fixture
def server(secrets: Path, tmp_path: Path) -> Iterator[str]:
    """Valkey by the command line of compose.yaml; its place."""
    inside = {"/data": str(tmp_path), "/run/secrets/redis_users": str(secrets / "redis_users")}
    given = [inside.get(word, word) for word in COMPOSE["services"]["redis"]["command"]]
    assert given[0] == "valkey-server"
    port = free_port()
    with subprocess.Popen(
        [str(valkey_program()), *given[1:], "--bind", "127.0.0.1", "--port", str(port)],
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            _wait(port, process)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        assert process.poll() is None, "Valkey did not start"
        with contextlib.suppress(redis.ConnectionError), redis.Redis(port=port) as client:
            return bool(client.ping())
        return False

    eventually(answers, what="Valkey answers")


def test_script_makes_every_secret_and_nothing_else(secrets: Path) -> None:
    assert {file.name for file in secrets.iterdir()} == COMPOSE["secrets"].keys()
    assert secrets.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in secrets.iterdir())
    password = (secrets / "postgres_password").read_text()
    assert len(password) == 48
    for name in ("database_url", "database_listen_url", "pgbouncer_users"):
        assert password in (secrets / name).read_text()


def test_users_are_those_of_the_document(secrets: Path) -> None:
    (rights,) = re.findall(
        r"ACL SETUSER tollgate on >secret (.+)", (ROOT / "docs/redis.md").read_text()
    )
    assert (secrets / "redis_users").read_text().rstrip("\n").endswith(rights)


async def test_redis_serves_our_scripts_and_strangers_may_only_ping(
    server: str, secrets: Path
) -> None:
    stranger = redis.Redis.from_url(f"redis://{server}")
    with contextlib.closing(stranger):
        assert stranger.ping()
        with pytest.raises(redis.exceptions.NoPermissionError):
            stranger.get("rl:any")
    url = (secrets / "redis_url").read_text().replace("redis:6379", server)
    store = Store(RedisSettings(), url=url)
    await store.open()
    try:
        await store.ping()
        await store.probe()
    finally:
        await store.close()
    ours = redis.Redis.from_url(url)
    with contextlib.closing(ours), pytest.raises(redis.exceptions.NoPermissionError):
        ours.execute_command("FLUSHALL")


@pytest.mark.skipif(balancer.found() is None, reason="no nginx on PATH")
def test_nginx_takes_its_files(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config/nginx.conf", tmp_path)
    shutil.copytree(ROOT / "config/compose/place", tmp_path / "place")
    paths = tmp_path / "place/paths.conf"
    paths.write_text(paths.read_text().replace("/tmp/", f"{tmp_path}/"))  # noqa: S108
    command = COMPOSE["services"]["nginx"]["command"]
    context = command[-1].replace("/tmp/", f"{tmp_path}/")  # noqa: S108
    done = subprocess.run(
        [str(balancer.found()), "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf", *command[1:4],
         context],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@needs_promtool
def test_prometheus_takes_its_file(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config/compose/prometheus.yml", tmp_path)
    for rules in (ROOT / "config/prometheus").glob("*.rules.yml"):
        shutil.copy(rules, tmp_path)
    code, said = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert code == 0, said
