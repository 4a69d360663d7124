"""What every way of running Tollgate on this machine stands on.

In order, each stopped in reverse: embedded servers (where no URL names others), migrations and
demonstration flows, sandbox payment service (where no URL names another).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scripts.devservers import devservers
from scripts.kept import Kept, Order
from scripts.loopback import LOOPBACK, free_port
from scripts.running import ROOT, Running
from service.settings import Settings
from service.settings.secret_files import SUFFIX

FLOWS = "config/flows/demonstration.toml"
#: Workers import, connect and fill their pools; a slow machine's first start reads cold files.
READY_TIMEOUT_S = 90.0
#: Connections of migrations, operators and tests, beside the workers' own.
SPARE_CONNECTIONS = 30


class StepFailed(Exception):
    """A part did not come up, or went down."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where everything is, as ``environment`` of a service, and what must stay up."""

    environment: Mapping[str, str]
    parts: Mapping[str, Kept]
    sandboxed: bool
    network: str

    def note(self, url: str, internal_url: str) -> Running:
        """What other commands are told of the service at these addresses."""
        return Running(
            url=url,
            internal_url=internal_url,
            payment_url=self.environment["TOLLGATE_PAYMENT__URL"] if self.sandboxed else None,
            payment_api_key=(
                self.environment["TOLLGATE_PAYMENT__API_KEY"] if self.sandboxed else None
            ),
            payment_network=self.network,
            database_url=self.environment["TOLLGATE_DATABASE__URL"],
            redis_url=self.environment["TOLLGATE_REDIS__URL"],
        )


@contextlib.contextmanager
def ground(settings: Settings, data: Path, *, workers: int) -> Iterator[Ground]:
    """All of it, for so many workers, until the block ends; raises StepFailed."""
    database, redis = settings.database, settings.redis
    with ExitStack() as stack:
        say("Starting the servers ...")
        servers = stack.enter_context(
            devservers(
                data,
                database_url=database.url.get_secret_value() if database.url else None,
                redis_url=redis.url.get_secret_value() if redis.url else None,
                # A worker listens for changes on one of its own.
                max_connections=max(100, workers * (database.pool_max + 1) + SPARE_CONNECTIONS),
            )
        )
        environment = changed(
            os.environ,
            {
                "TOLLGATE_DATABASE__URL": servers.database_url,
                "TOLLGATE_REDIS__URL": servers.redis_url,
            },
        )
        step("migrate", environment=environment)
        step("flows", "import", FLOWS, environment=environment)
        parts: dict[str, Kept] = {}
        sandboxed = settings.payment.url is None
        if sandboxed:
            environment |= _payment(settings, data)
            environment |= {"TOLLGATE_SHOP__SANDBOX_URL": environment["TOLLGATE_PAYMENT__URL"]}
            say("Starting the sandbox payment service ...")
            parts["the sandbox"] = stack.enter_context(_sandbox(settings, environment, data))
        # A keeper that has ended is a server that has.
        parts |= {server.name: server.kept for server in servers.started if server.kept}
        yield Ground(environment, parts, sandboxed, settings.payment.network)


def expect_alive(parts: Mapping[str, Kept]) -> None:
    """Raises StepFailed for a part that has ended."""
    for name, part in parts.items():
        if not part.alive:
            raise StepFailed(f"{name} has ended (code {part.exit_code}); stopping the rest.")


def expect_starter(starter: int | None) -> None:
    """Raises StepFailed where the ``make`` that started us has gone without a word."""
    if starter is not None and os.getppid() != starter:
        raise StepFailed("make has ended; stopping.")


def starter() -> int | None:
    return os.getppid() if "MAKELEVEL" in os.environ else None


def take_stop_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP all raise KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Also SIGINT: a shell without job control makes its background programs ignore it. But who
        # asks by nohup to outlive the terminal shall.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def usable(host: str, port: int, variable: str) -> int:
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


def changed(environment: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """With these variables; a secret is given as itself or by a file's name, never both."""
    others = {
        name.removesuffix(SUFFIX) if name.endswith(SUFFIX) else f"{name}{SUFFIX}"
        for name in settings
    }
    kept = {name: value for name, value in environment.items() if name not in others}
    return {**kept, **settings}


def step(*arguments: str, environment: Mapping[str, str]) -> None:
    """One ``tollgate`` command to its end; shown only when it fails. Raises StepFailed."""
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
    with child(arguments, environment, 5.0, log) as sandbox:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not _accepts(int(port)):
            if sandbox.wait(0.05) or time.monotonic() > deadline:
                raise StepFailed(f"the sandbox did not start:\n{end_of(log)}")
        yield sandbox


@contextlib.contextmanager
def child(
    arguments: tuple[str, ...], environment: Mapping[str, str], grace_s: float, log: Path
) -> Iterator[Kept]:
    log.unlink(missing_ok=True)  # of the last run
    started = Kept(
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
        yield started
    finally:
        try:
            started.stop()
        except KeyboardInterrupt:  # the second Ctrl-C: no patience left
            started.kill()
            raise


def _accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port), 1.0):
        return True
    return False


def end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def short(path: Path) -> str:
    here = path.resolve()
    return str(here.relative_to(ROOT)) if here.is_relative_to(ROOT) else str(here)


def say(text: str) -> None:
    print(text, flush=True)
