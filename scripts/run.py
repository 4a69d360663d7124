"""What ``make run`` executes: everything Tollgate needs on this machine, until Ctrl-C.

First what it stands on (``scripts.ground``), then the service. If one of them dies, or we do, the
rest is brought down.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from scripts.devservers import ServersUnavailable
from scripts.first_sale import first_sale
from scripts.ground import (
    READY_TIMEOUT_S,
    StepFailed,
    child,
    end_of,
    expect_alive,
    expect_starter,
    ground,
    say,
    short,
    starter,
    take_stop_signals,
    usable,
)
from scripts.kept import Kept
from scripts.lock import LOCK, only_one
from scripts.loopback import LOOPBACK
from scripts.running import COMMAND, RUN, noted
from service.errors import ConfigurationError
from service.settings import Settings, load

#: Beyond the service's own time for requests and jobs in hand.
STOP_MARGIN_S = 15.0
WATCH_INTERVAL_S = 0.5


def main() -> int:
    parser = argparse.ArgumentParser(description="Everything on this machine, until Ctrl-C.")
    parser.add_argument("--data", type=Path, default=RUN, help="directory for data and logs")
    data = parser.parse_args().data
    take_stop_signals()
    try:
        settings = load().settings
        with only_one(data / LOCK):
            _run(settings, data)
    except KeyboardInterrupt:
        say("Stopped.")
        return 0
    except (ConfigurationError, ServersUnavailable, StepFailed) as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1
    return 0


def _run(settings: Settings, data: Path) -> None:
    began = time.monotonic()
    server = settings.server
    port = usable(server.host, server.port, "TOLLGATE_SERVER__PORT")
    internal = usable(server.internal_host, server.internal_port, "TOLLGATE_SERVER__INTERNAL_PORT")
    with ExitStack() as stack:
        there = stack.enter_context(ground(settings, data, workers=server.workers))
        environment = {
            **there.environment,
            "TOLLGATE_SERVER__PORT": str(port),
            "TOLLGATE_SERVER__INTERNAL_PORT": str(internal),
            # No balancer looks for our readiness, or keeps connections: nothing to wait for.
            "TOLLGATE_SERVER__DRAIN_DELAY": os.environ.get("TOLLGATE_SERVER__DRAIN_DELAY", "0"),
            "TOLLGATE_SERVER__IDLE_LINGER": os.environ.get("TOLLGATE_SERVER__IDLE_LINGER", "0"),
        }
        say("Starting the service ...")
        grace_s = server.drain_delay + 2 * server.shutdown_timeout + STOP_MARGIN_S
        log = data / "service.log"
        service = stack.enter_context(child(("-m", "service", "serve"), environment, grace_s, log))
        host = LOOPBACK if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104 (compared)
        _await_ready(service, server.internal_host, internal, log)
        note = there.note(f"http://{host}:{port}", f"http://{server.internal_host}:{internal}")
        stack.enter_context(noted(note, data))
        print(first_sale(note.url), flush=True)
        command = short(data / COMMAND)
        say(f"For operators: {note.internal_url}/ops; `tollgate` for this service: {command}")
        say(
            f"Ready after {time.monotonic() - began:.0f} s; logs and data are in {short(data)}."
            " Ctrl-C stops everything."
        )
        _watch({"the service": service, **there.parts})


def _await_ready(service: Kept, host: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _ready(host, port):
        if service.wait(0.1):
            raise StepFailed(f"the service ended with code {service.exit_code}:\n{end_of(log)}")
        if time.monotonic() > deadline:
            raise StepFailed(
                f"the service was not ready after {READY_TIMEOUT_S:.0f} s:\n{end_of(log)}"
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


def _watch(parts: Mapping[str, Kept]) -> None:
    """Until one of them ends, or the ``make`` that started us."""
    began_by = starter()
    first = next(iter(parts.values()))
    while True:
        first.wait(WATCH_INTERVAL_S)
        expect_alive(parts)
        expect_starter(began_by)


if __name__ == "__main__":
    sys.exit(main())
