"""What ``make run`` executes: everything Tollgate needs on this machine, until Ctrl-C.

In order, each stopped in reverse: embedded servers (where no URL names others), migrations and
demonstration flows, sandbox payment service (where no URL names another), the service. If one of
them dies, or we do, the rest is brought down.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

from scripts.devservers import ServersUnavailable, devservers
from scripts.first_sale import first_sale
from scripts.kept import Kept, Order
from scripts.lock import LOCK, only_one
from scripts.loopback import LOOPBACK, free_port
from scripts.running import ROOT, RUN, Running, noted
from service.errors import ConfigurationError
from service.settings import Settings, load

FLOWS = "config/flows/demonstration.toml"
#: Workers import, connect and fill their pools; a slow machine's first start reads cold files.
READY_TIMEOUT_S = 90.0
#: Beyond the service's own time for requests and jobs in hand.
STOP_MARGIN_S = 15.0
#: Connections of migrations, operators and tests, beside the workers' pools.
SPARE_CONNECTIONS = 30
WATCH_INTERVAL_S = 0.5


class StepFailed(Exception):
    """A part did not come up, or went down."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Everything on this machine, until Ctrl-C.")
    parser.add_argument("--data", type=Path, default=RUN, help="directory for data and logs")
    data = parser.parse_args().data
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Also SIGINT: a shell without job control makes its background programs ignore it. But who
        # asks by nohup to outlive the terminal shall.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    try:
        settings = load().settings
        with only_one(data / LOCK):
            _run(settings, data)
    except KeyboardInterrupt:
        _say("Stopped.")
        return 0
    except (ConfigurationError, ServersUnavailable, StepFailed) as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1
    return 0


def _run(settings: Settings, data: Path) -> None:
    began = time.monotonic()
    server = settings.server
    port = _usable(server.host, server.port, "TOLLGATE_SERVER__PORT")
    internal = _usable(server.internal_host, server.internal_port, "TOLLGATE_SERVER__INTERNAL_PORT")
    database, redis = settings.database, settings.redis
    with ExitStack() as stack:
        _say("Starting the servers ...")
        servers = stack.enter_context(
            devservers(
                data,
                database_url=database.url.get_secret_value() if database.url else None,
                redis_url=redis.url.get_secret_value() if redis.url else None,
                max_connections=max(100, server.workers * database.pool_max + SPARE_CONNECTIONS),
            )
        )
        environment = {
            **os.environ,
            "TOLLGATE_DATABASE__URL": servers.database_url,
            "TOLLGATE_REDIS__URL": servers.redis_url,
            "TOLLGATE_SERVER__PORT": str(port),
            "TOLLGATE_SERVER__INTERNAL_PORT": str(internal),
            # No balancer looks for our readiness: nothing to wait for before stopping.
            "TOLLGATE_SERVER__DRAIN_DELAY": os.environ.get("TOLLGATE_SERVER__DRAIN_DELAY", "0"),
        }
        _step("migrate", environment=environment)
        _step("flows", "import", FLOWS, environment=environment)
        watched: dict[str, Kept] = {}
        if settings.payment.url is None:
            environment |= _payment(settings, data)
            environment |= {"TOLLGATE_SHOP__SANDBOX_URL": environment["TOLLGATE_PAYMENT__URL"]}
            _say("Starting the sandbox payment service ...")
            watched["the sandbox"] = stack.enter_context(_sandbox(settings, environment, data))
        _say("Starting the service ...")
        grace_s = server.drain_delay + 2 * server.shutdown_timeout + STOP_MARGIN_S
        log = data / "service.log"
        service = stack.enter_context(_child(("-m", "service", "serve"), environment, grace_s, log))
        watched["the service"] = service
        host = LOOPBACK if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104 (compared)
        _await_ready(service, server.internal_host, internal, log)
        sandboxed = settings.payment.url is None
        note = Running(
            url=f"http://{host}:{port}",
            internal_url=f"http://{server.internal_host}:{internal}",
            payment_url=environment["TOLLGATE_PAYMENT__URL"] if sandboxed else None,
            payment_api_key=environment["TOLLGATE_PAYMENT__API_KEY"] if sandboxed else None,
            payment_network=settings.payment.network,
        )
        stack.enter_context(noted(note, data))
        print(first_sale(note.url), flush=True)
        _say(
            f"Ready after {time.monotonic() - began:.0f} s; logs and data are in {_short(data)}."
            " Ctrl-C stops everything."
        )
        # A keeper that has ended is a server that has.
        _watch(watched | {server.name: server.kept for server in servers.started if server.kept})


def _usable(host: str, port: int, variable: str) -> int:
    if port == 0:
        return free_port()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the service will: connections of the last run that still time out do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StepFailed(
                f"{host}:{port} can not be used ({error.strerror}); set {variable} to another port."
            ) from error
    return port


def _step(*arguments: str, environment: Mapping[str, str]) -> None:
    """One ``tollgate`` command to its end; shown only when it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise StepFailed(f"tollgate {' '.join(arguments)} failed:\n{done.stdout.strip()}")


def _payment(settings: Settings, data: Path) -> dict[str, str]:
    """Settings for the sandbox; its key lasts as long as its payments, which belong to the key."""
    note = data / "sandbox.key"
    if settings.payment.api_key:
        key = settings.payment.api_key.get_secret_value()
    elif note.exists():
        key = note.read_text().strip()
    else:
        key = secrets.token_hex(16)
        note.touch(mode=0o600)
        note.write_text(key)
    return {
        "TOLLGATE_PAYMENT__URL": f"http://{LOOPBACK}:{free_port()}",
        "TOLLGATE_PAYMENT__API_KEY": key,
        # The sandbox pays at once: a first sale should not wait for the next look.
        "TOLLGATE_PAYMENT__POLL_INTERVAL": os.environ.get("TOLLGATE_PAYMENT__POLL_INTERVAL", "1"),
    }


@contextlib.contextmanager
def _sandbox(settings: Settings, environment: Mapping[str, str], data: Path) -> Iterator[Kept]:
    port = environment["TOLLGATE_PAYMENT__URL"].rpartition(":")[2]
    network = settings.payment.network
    state = data / "sandbox.jsonl"
    arguments = (
        "-m",
        "scripts.sandbox",
        "--port",
        port,
        "--network",
        network,
        "--state",
        str(state),
    )
    environment = {**environment, "SANDBOX_API_KEY": environment["TOLLGATE_PAYMENT__API_KEY"]}
    log = data / "sandbox.log"
    with _child(arguments, environment, 5.0, log) as child:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _accepts(int(port)):
            if child.wait(0.05) or time.monotonic() > deadline:
                raise StepFailed(f"the sandbox did not start:\n{_end_of(log)}")
        yield child


@contextlib.contextmanager
def _child(
    arguments: tuple[str, ...], environment: Mapping[str, str], grace_s: float, log: Path
) -> Iterator[Kept]:
    log.unlink(missing_ok=True)  # of the last run
    child = Kept(
        Order(
            command=(sys.executable, *arguments),
            directory=ROOT,
            environment=environment,
            stop_signals=(signal.SIGTERM,),
            grace_s=grace_s,
            log=log,
        )
    )
    try:
        yield child
    finally:
        try:
            child.stop()
        except KeyboardInterrupt:  # the second Ctrl-C: no patience left
            child.kill()
            raise


def _await_ready(service: Kept, host: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _ready(host, port):
        if service.wait(0.1):
            raise StepFailed(f"the service ended with code {service.exit_code}:\n{_end_of(log)}")
        if time.monotonic() > deadline:
            raise StepFailed(
                f"the service was not ready after {READY_TIMEOUT_S:.0f} s:\n{_end_of(log)}"
            )


def _ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1.0):
        return True
    return False


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _watch(children: Mapping[str, Kept]) -> None:
    """Until one of them ends, or the ``make`` that started us has gone without a word."""
    starter = os.getppid() if "MAKELEVEL" in os.environ else None
    first = next(iter(children.values()))
    while True:
        first.wait(WATCH_INTERVAL_S)
        for name, child in children.items():
            if not child.alive:
                raise StepFailed(f"{name} has ended (code {child.exit_code}); stopping the rest.")
        if starter is not None and os.getppid() != starter:
            raise StepFailed("make has ended; stopping.")


def _short(path: Path) -> str:
    here = path.resolve()
    return str(here.relative_to(ROOT)) if here.is_relative_to(ROOT) else str(here)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
