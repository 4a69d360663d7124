"""nginx with the shipped configuration, before the replicas of a fleet."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.ground import StepFailed, end_of
from scripts.kept import Kept, Order
from scripts.running import ROOT

CONFIGURATION = ROOT / "config" / "nginx.conf"
#: Where packages put it, and ordinary users do not look.
_ADMINISTRATORS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
MISSING = (
    "There is no nginx on this machine. Install it (Debian, Ubuntu: apt-get install -y nginx;"
    " macOS: brew install nginx); its own service need not run."
)
START_TIMEOUT_S = 15.0
#: For requests in hand when it is stopped.
GRACE_S = 5.0
#: A client and its replica's connection take a file each.
OPEN_FILES = 65_536
_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


class NginxMissing(Exception):
    """There is no nginx here; the message says how to get it."""


def found() -> str | None:
    """The program, if this machine has one."""
    places = (os.environ.get("PATH", os.defpath), *_ADMINISTRATORS)
    return shutil.which("nginx", path=os.pathsep.join(places))


def required() -> str:
    """The program; raises NginxMissing."""
    if (program := found()) is None:
        raise NginxMissing(MISSING)
    return program


@contextlib.contextmanager
def balancer(home: Path, *, listen: tuple[str, int], replicas: Sequence[int]) -> Iterator[Kept]:
    """nginx with its files in ``home``, before replicas on these loopback ports."""
    program = required()
    command = [*(program, "-p", str(home), "-c", str(home / "nginx.conf")), "-g", _main_context()]
    place(home, listen=listen, replicas=replicas)
    log = home / "error.log"
    log.unlink(missing_ok=True)
    tried = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        raise StepFailed(f"nginx does not take its configuration:\n{tried.stderr.strip()}")
    _allow_open_files()
    nginx = Kept(
        Order(
            command=command,
            directory=home,
            environment=os.environ,
            stop_signals=(signal.SIGQUIT, signal.SIGTERM),
            grace_s=GRACE_S,
            log=log,
        )
    )
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _accepts(*listen):
            if nginx.wait(0.05) or time.monotonic() > deadline:
                raise StepFailed(f"nginx did not start:\n{end_of(log)}")
        yield nginx
    finally:
        nginx.stop()


def place(home: Path, *, listen: tuple[str, int], replicas: Sequence[int]) -> None:
    """The shipped file, and the three beside it that say where we are."""
    for folder in ("place", "temporary"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    shutil.copyfile(CONFIGURATION, home / "nginx.conf")
    lines = [f"{name}_temp_path temporary/{name};" for name in _TEMPORARY]
    _write(home / "place" / "paths.conf", ["access_log access.log tollgate;", *lines])
    _write(
        home / "place" / "replicas.conf",
        [f"server 127.0.0.1:{port} max_fails=1 fail_timeout=1s;" for port in replicas],
    )
    host, port = listen
    shown = f"[{host}]" if ":" in host else host
    _write(home / "place" / "listen.conf", [f"listen {shown}:{port} backlog=1024;"])


def _main_context() -> str:
    """What a package's own start would say; standard error is the log."""
    return "daemon off; pid nginx.pid; error_log stderr warn;"


def _write(file: Path, lines: Sequence[str]) -> None:
    file.write_text("\n".join([*lines, ""]))


def _allow_open_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _accepts(host: str, port: int) -> bool:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 (compared)
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1.0):
        return True
    return False
