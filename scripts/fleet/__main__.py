"""``make fleet``, ``make fleet-restart`` and ``make fleet-stop``.

Everything in one terminal: what Tollgate stands on, replicas on ports of their own, nginx before
them on the service's usual one. Ctrl-C stops all of it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from scripts.devservers import ServersUnavailable
from scripts.first_sale import first_sale
from scripts.fleet import balancer as nginx
from scripts.fleet.control import DONE, RESTART, STOP, Control, ask, control, read
from scripts.fleet.replicas import NotReady, Replicas, replicas
from scripts.ground import (
    StepFailed,
    changed,
    expect_alive,
    expect_starter,
    ground,
    say,
    short,
    starter,
    step,
    take_stop_signals,
    usable,
)
from scripts.kept import Kept
from scripts.lock import LOCK, held, only_one
from scripts.loopback import LOOPBACK
from scripts.running import COMMAND, RUN, noted
from service.errors import ConfigurationError
from service.settings import PREFIX, Settings, load

#: As a shell says of a program that is not there.
EXIT_MISSING = 127
#: Beyond a replica's own time for requests and jobs in hand.
STOP_MARGIN_S = 15.0
WATCH_INTERVAL_S = 0.5
#: What a restart does not change: nginx knows the replicas by it.
_OWN = {f"TOLLGATE_SERVER__{name}" for name in ("HOST", "INTERNAL_HOST", "TRUSTED_PROXIES")}


def main() -> int:
    parser = argparse.ArgumentParser(description="A fleet of replicas behind nginx.")
    parser.add_argument("command", choices=("up", RESTART, STOP))
    parser.add_argument("--replicas", type=_count, default=3)
    parser.add_argument("--workers", type=_count, default=2, help="of each replica")
    parser.add_argument("--data", type=Path, default=RUN, help="directory for data and logs")
    arguments = parser.parse_args()
    if arguments.command != "up":
        return _call(arguments.data, arguments.command)
    take_stop_signals()
    try:
        nginx.required()
        settings = load().settings
        with only_one(arguments.data / LOCK):
            _up(settings, arguments.data, count=arguments.replicas, workers=arguments.workers)
    except KeyboardInterrupt:
        say("Stopped.")
        return 0
    except nginx.NginxMissing as error:
        print(f"make fleet: {error}", file=sys.stderr)
        return EXIT_MISSING
    except (ConfigurationError, ServersUnavailable, StepFailed) as error:
        print(f"make fleet: {error}", file=sys.stderr)
        return 1
    return 0


def _up(settings: Settings, data: Path, *, count: int, workers: int) -> None:
    began_s = time.monotonic()
    server = settings.server
    port = usable(server.host, server.port, "TOLLGATE_SERVER__PORT")
    began_by = starter()
    with ExitStack() as stack:
        there = stack.enter_context(ground(settings, data, workers=count * workers))
        watched: dict[str, Kept] = dict(there.parts)

        def undisturbed() -> None:
            expect_alive(watched)
            expect_starter(began_by)

        say(f"Starting {count} replicas with {workers} workers each ...")
        environment = {
            **there.environment,
            "TOLLGATE_SERVER__HOST": LOOPBACK,
            "TOLLGATE_SERVER__INTERNAL_HOST": LOOPBACK,
            "TOLLGATE_SERVER__TRUSTED_PROXIES": f"{LOOPBACK}/32",
            # nginx does not ask for readiness: it notices that connecting is refused.
            "TOLLGATE_SERVER__DRAIN_DELAY": os.environ.get("TOLLGATE_SERVER__DRAIN_DELAY", "0"),
        }
        fleet = stack.enter_context(
            replicas(
                data,
                environment,
                count=count,
                workers=workers,
                grace_s=server.drain_delay + 2 * server.shutdown_timeout + STOP_MARGIN_S,
                undisturbed=undisturbed,
            )
        )
        say("Starting nginx ...")
        ports = [replica.port for replica in fleet.members]
        watched["nginx"] = stack.enter_context(
            nginx.balancer(data / "nginx", listen=(server.host, port), replicas=ports)
        )
        addresses = [
            {"url": replica.url, "internal_url": replica.internal_url} for replica in fleet.members
        ]
        calls = stack.enter_context(control(data, addresses))
        host = LOOPBACK if server.host in ("0.0.0.0", "::") else server.host  # noqa: S104 (compared)
        note = there.note(f"http://{host}:{port}", fleet.members[0].internal_url)
        stack.enter_context(noted(note, data))
        print(first_sale(note.url), flush=True)
        command = short(data / COMMAND)
        for number, address in enumerate(addresses, 1):
            say(f"Replica {number}: {address['url']}, internal {address['internal_url']}")
        say(f"For operators: {note.internal_url}/ops; `tollgate` for this fleet: {command}")
        say(
            f"Ready after {time.monotonic() - began_s:.0f} s on {note.url}; logs and data are in"
            f" {short(data)}. `make fleet-restart` restarts the replicas one by one; Ctrl-C, or"
            " `make fleet-stop`, stops everything."
        )
        while True:
            undisturbed()
            fleet.look_after()
            environment = _serve(calls, fleet, environment)


def _serve(calls: Control, fleet: Replicas, environment: dict[str, str]) -> dict[str, str]:
    """One call, if one comes; the replicas' environment from then on."""
    call = calls.next_call(WATCH_INTERVAL_S)
    if call is None:
        return environment
    try:
        if call.word == STOP:
            call.tell(DONE)
            raise KeyboardInterrupt
        if len(fleet.members) == 1:
            call.tell("There is one replica only: nobody serves while it restarts.")

        def tell(line: str) -> None:
            say(line)
            call.tell(line)

        given = {name: value for name, value in call.settings.items() if name not in _OWN}
        wanted = changed(environment, given)
        try:
            # Wrong settings would end the first replica, and with it the fleet.
            step("config", "check", environment=wanted)
        except StepFailed as error:
            call.tell(str(error))
            return environment
        try:
            fleet.restart(tell, wanted)
        except NotReady as error:
            # The others serve: stopping them would make an outage of it.
            tell(str(error))
            return environment
        except StepFailed as error:
            call.tell(str(error))
            raise
        call.tell(DONE)
        return wanted
    finally:
        call.close()


def _call(data: Path, word: str) -> int:
    note = read(data)
    if note is None:
        print("No fleet is running in this checkout: make fleet starts one.", file=sys.stderr)
        return 1
    last = ""
    given = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    try:
        for line in ask(note, word, given):
            last = line
            if line != DONE:
                say(line)
        while word == STOP and held(data / LOCK):
            time.sleep(0.1)  # the last it does is to let go of it
    except OSError as error:
        print(f"The fleet does not answer: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0 if last == DONE else 1


def _count(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= 100):
        raise argparse.ArgumentTypeError("must be 1 to 100")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
