"""The commands as processes, on real servers."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import psycopg2

from scripts.devservers import EmbeddedPostgres
from scripts.loopback import free_port
from tests.support import commands
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
FLOWS = "config/flows/demonstration.toml"
PATIENCE_S = 50.0

Found = TypeVar("Found")


def environment(**settings: str) -> dict[str, str]:
    return os.environ | {f"TOLLGATE_{name}": value for name, value in settings.items()}


def tollgate(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return commands.tollgate(*arguments, environment=environment(**settings))


def test_migrate_applies_once(private_postgres: Callable[..., EmbeddedPostgres]) -> None:
    url = private_postgres().url
    first = tollgate("migrate", DATABASE__URL=url)
    assert first.returncode == 0, first.stderr
    assert "applied 0001_initial" in first.stdout
    assert tollgate("migrate", DATABASE__URL=url).stdout == "the schema is up to date\n"


def test_migrate_waits_for_postgres_and_says_so(
    private_postgres: Callable[..., EmbeddedPostgres],
) -> None:
    server = private_postgres()
    server.stop()
    with subprocess.Popen(
        [sys.executable, "-m", "service", "migrate", "--wait", "40"],
        cwd=ROOT,
        env=environment(DATABASE__URL=server.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert "Waiting up to 40 s" in process.stderr.readline()
        server.start()
        output, error = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert "applied 0001_initial" in output
    assert error == "", "said once"


def test_migrate_gives_up_after_its_time() -> None:
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/tollgate"
    done = tollgate("migrate", "--wait", "1", DATABASE__URL=url)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_flows_are_imported_once_and_listed(database_url: str, redis_url: str) -> None:
    urls = {"DATABASE__URL": database_url, "REDIS__URL": redis_url}
    assert "no flows yet" in tollgate("flows", "list", **urls).stdout
    first = tollgate("flows", "import", FLOWS, **urls)
    assert first.returncode == 0, first.stderr
    slugs = re.findall(r"(?m)^created (\S+)$", first.stdout)
    assert slugs
    assert len(first.stdout.splitlines()) == len(slugs)
    again = tollgate("flows", "import", FLOWS, **urls)
    assert re.findall(r"(?m)^unchanged (\S+)$", again.stdout) == slugs
    listed = tollgate("flows", "list", **urls).stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["FLOW", *sorted(slugs)]
    assert "(free)" in "".join(listed)


def test_flows_are_imported_while_redis_is_away(database_url: str) -> None:
    done = tollgate(
        "flows", "import", FLOWS, DATABASE__URL=database_url,
        REDIS__URL=f"redis://127.0.0.1:{free_port()}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "created " in done.stdout


def test_breaker_show(redis_url: str) -> None:
    done = tollgate("breaker", "show", REDIS__URL=redis_url)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?m)^state +closed$", done.stdout)


def test_breaker_show_does_not_pass_off_its_own_view_as_the_fleets() -> None:
    done = tollgate("breaker", "show", REDIS__URL=f"redis://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Redis cannot be reached" in done.stderr


def test_jobs_show_tells_a_job_and_its_history(database_url: str, redis_url: str) -> None:
    tollgate("flows", "import", FLOWS, DATABASE__URL=database_url, REDIS__URL=redis_url)
    job_id = str(uuid4())
    with psycopg2.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO jobs (id, flow_uid, flow_slug, variant, free, state, status_id, seq,
                principal, input_data, runner_input, input_hash, result, result_hash, settlement)
            SELECT %(id)s, uid, slug, 'free', true, 'completed', %(event)s, 2,
                'a-client', '{}', '{}', 'abc', %(result)s, 'def', 'none'
            FROM flows LIMIT 1
            """,
            {"id": job_id, "event": str(uuid4()), "result": "the result \x1b[31m" + 300 * "x"},
        )
        for seq, state, cause in ((1, "running", "started"), (2, "completed", "run-done")):
            cursor.execute(
                "INSERT INTO job_events (id, job_id, seq, state, cause)"
                " VALUES (%s, %s, %s, %s, %s)",
                (str(uuid4()), job_id, seq, state, cause),
            )
    connection.close()
    done = tollgate("jobs", "show", job_id, DATABASE__URL=database_url)
    assert done.returncode == 0, done.stderr
    assert re.search(r"(?m)^state +completed$", done.stdout)
    assert re.search(r"(?m)^1 .* running +started$", done.stdout)
    assert re.search(r"(?m)^2 .* completed +run-done$", done.stdout)
    assert re.search(r"(?m)^result +316 characters$", done.stdout)
    assert "the result" not in done.stdout
    assert "\x1b" not in done.stdout
    unknown = tollgate("jobs", "show", str(uuid4()), DATABASE__URL=database_url)
    assert unknown.returncode == 1
    assert unknown.stderr.startswith("tollgate: There is no job")


def test_jobs_show_without_database_is_one_line_and_code_1() -> None:
    url = f"postgresql://postgres:hunter2@127.0.0.1:{free_port()}/tollgate"
    done = tollgate("jobs", "show", str(uuid4()), DATABASE__URL=url)
    assert done.returncode == 1
    assert "PostgreSQL cannot be reached" in done.stderr.splitlines()[-1]
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_with_the_port_in_use_is_one_line_and_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "service", "serve"],
            cwd=ROOT,
            env=environment(**without_servers(), SERVER__PORT=port),
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "TOLLGATE_SERVER__PORT" in line


def without_servers() -> dict[str, str]:
    return {
        "DATABASE__URL": f"postgresql://postgres@127.0.0.1:{free_port()}/tollgate",
        "REDIS__URL": f"redis://127.0.0.1:{free_port()}",
        "PAYMENT__URL": f"http://127.0.0.1:{free_port()}",
        "PAYMENT__API_KEY": "test-key",
        "SERVER__INTERNAL_PORT": "0",
        "SERVER__WORKERS": "2",
        "SERVER__DRAIN_DELAY": "0.2",
        "DATABASE__POOL_MIN": "2",
        "DATABASE__POOL_MAX": "4",
    }


async def test_serve_comes_up_without_any_server_and_becomes_ready_when_they_come(
    private_postgres: Callable[..., EmbeddedPostgres], tmp_path: Path
) -> None:
    """No crash-loop: alive at once, ready when the pool is filled, gone when told."""
    server = private_postgres()
    assert tollgate("migrate", DATABASE__URL=server.url).returncode == 0
    server.stop()
    settings = without_servers() | {"DATABASE__URL": server.url, "SERVER__PORT": "0"}
    output = tmp_path / "output"
    with output.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve"],
            cwd=ROOT,
            env=environment(**settings),
            stdout=stream,
            stderr=stream,
        )
    try:
        events = await until(lambda: events_of(output, "worker_ready", 2))
        workers = {event["worker"] for event in events}
        (serving,) = events_of(output, "serving", 1)
        for base in (serving["public"], serving["internal"]):
            assert status(f"http://{base}/livez") == 200
            assert status(f"http://{base}/readyz") == 503
        server.start()
        for base in (serving["public"], serving["internal"]):
            # Every worker has its own pool; the probes reach them in turn.
            await until(lambda base=base: all_ready(f"http://{base}/readyz"))  # type: ignore[misc]
        assert {event["worker"] for event in events_of(output, "worker_ready", 2)} == workers
        assert "tollgate_database_pool_connections" in text_of(
            f"http://{serving['internal']}/metrics"
        )
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
    assert "Traceback" not in output.read_text()


def events_of(output: Path, name: str, count: int) -> list[dict[str, object]]:
    lines = [line for line in output.read_text().splitlines() if line.startswith("{")]
    events = [event for event in map(json.loads, lines) if event["event"] == name]
    return events if len(events) >= count else []


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def text_of(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def all_ready(url: str) -> bool:
    return all(status(url) == 200 for _ in range(8))
