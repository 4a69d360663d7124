"""What is asked: a fleet started for it, or a service that runs already."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from scripts import running
from scripts.fleet import balancer
from scripts.load.watching.observe import Observed, found
from scripts.lock import LOCK, held
from scripts.running import RUN, Running
from scripts.stack import stack
from service.settings import Settings, load

LOCAL = "127.0.0.1"
#: Apart from what ``make run`` and ``make fleet`` have.
DATA = RUN / "load"
_CONNECT_TIMEOUT_S = 5.0
#: A line for each request would cost more than the requests; failures keep theirs.
_QUIET = {"TOLLGATE_LOGGING__ACCESS_SAMPLE": "0"}


class TargetRefused(Exception):
    """Nothing was asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Size:
    replicas: int
    workers: int


@dataclass(frozen=True, slots=True)
class Target:
    """``service``: what a fleet of this machine has noted of itself; ``settings``: its own."""

    host: str
    port: int
    service: Running | None = None
    observed: Observed = field(default_factory=Observed)
    settings: Settings | None = None
    size: Size | None = None
    environment: Mapping[str, str] | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


def named(url: str, *, remote: bool, data: Path = RUN) -> Target:
    """The service at ``url``, with what it has noted in ``data``; raises TargetRefused where it
    is not for us to load.
    """
    name, port = _address(url)
    if not (remote or _is_local(name)):
        raise TargetRefused(
            f"{name} is not this machine. Load tests can take a service down: if it is"
            " yours and you mean it, say so with REMOTE=yes (--remote)."
        )
    host = LOCAL if name == "localhost" else name
    service = running.read(data)
    if service is None or urlsplit(service.url).port != port or not _is_local(host):
        return Target(host, port)
    return Target(host, port, service, found(data))


def expect_somebody(target: Target) -> None:
    """Raises TargetRefused where nobody takes connections."""
    try:
        socket.create_connection((target.host, target.port), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise TargetRefused(f"nobody answers at {target.url}: {error}") from error


@contextlib.contextmanager
def started(environment: Mapping[str, str], size: Size, data: Path = DATA) -> Iterator[Target]:
    """A fleet of ``make fleet`` with these settings beside the usual ones, until the block ends."""
    balancer.required()
    if held(data / LOCK):
        raise TargetRefused("Another load test of this checkout is running.")
    # Each begins with empty servers: what an earlier one left would be measured, too.
    shutil.rmtree(data, ignore_errors=True)
    settings = _QUIET | dict(environment)
    program = (
        *("scripts.fleet", "up", "--replicas", str(size.replicas)),
        *("--workers", str(size.workers)),
    )
    data.mkdir(parents=True)
    with _environment(settings):
        loaded = load().settings
    with stack(data, settings, program=program) as there:
        parts = urlsplit(there.service.url)
        yield Target(
            host=parts.hostname or LOCAL,
            port=parts.port or 80,
            service=there.service,
            observed=found(data),
            settings=loaded,
            size=size,
            environment=dict(environment),
        )


def _address(url: str) -> tuple[str, int]:
    wrong = f"{url} is no address of the form http://host:port"
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        port = 80 if parts.port is None else parts.port
    except ValueError as error:  # a bracket too few, a port beyond all
        raise TargetRefused(wrong) from error
    rest = (parts.path.strip("/"), parts.query, parts.fragment, parts.username)
    if parts.scheme != "http" or not parts.hostname or not port or any(rest):
        raise TargetRefused(wrong)
    return parts.hostname, port


def _is_local(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name: where it leads may change between this look and the load
        return False


@contextlib.contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
