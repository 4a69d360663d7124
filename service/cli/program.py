"""Reads the command line and runs one command.

Exit codes: 0 done; 1 it failed (a server is away, there is no such job, a port is in use); 2 the
command line or the settings are wrong; 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, cast
from uuid import UUID

from service import __version__
from service.cli.terminal import complain
from service.errors import ConfigurationError, TollgateError
from service.logs import configure_logging
from service.settings import LoggingSettings

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
_JOB_STATES = (
    "creating",
    "awaiting_payment",
    "running",
    "awaiting_input",
    "completed",
    "failed",
)
_PRINCIPAL = "an address, key:NAME, or fleet for what all clients share"


class _Command(Protocol):
    def __call__(self, arguments: argparse.Namespace) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code; failures are one line each on stderr."""
    given = _parser().parse_args(arguments)
    # What the parts have to say while a command runs is for the person who typed it.
    configure_logging(LoggingSettings(level="warning", format="console"))
    try:
        code = _command(given.command)(given)
        sys.stdout.flush()
    except ConfigurationError as error:
        complain(error.message)
        return WRONG
    except TollgateError as error:
        complain(error.message)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (``| head``) has gone; the interpreter's own flush must not fail on it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _command(place: str) -> _Command:
    # Only the chosen command's module: ``serve`` must be first to decide where metrics live.
    module, _, name = place.partition(":")
    return cast("_Command", getattr(importlib.import_module(f"service.cli.{module}"), name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tollgate",
        description="Sells runs of AI flows. Settings: config/tollgate.toml, TOLLGATE_ variables.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong command line or settings, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"tollgate {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    _add(commands, "serve", "serve:serve", "serve until told to stop")
    migrate = _add(commands, "migrate", "database:migrate", "bring the database schema up to date")
    migrate.add_argument(
        "--wait",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="wait so long for PostgreSQL to come up (default: %(default)g)",
    )

    flows = _group(commands, "flows", "the flows on sale")
    bring = _add(flows, "import", "flows:bring", "add or update flows from a TOML or JSON file")
    bring.add_argument("file", type=Path, metavar="FILE")
    _add(flows, "list", "flows:show", "list the flows on sale")

    limits = _group(commands, "limits", "the request limits")
    listing = _add(limits, "list", "limits:show", "list the policies in effect for the fleet")
    listing.add_argument("--files", action="store_true", help="those of the files; ask no server")
    peek = _add(limits, "peek", "buckets:peek", "show what is left in a client's buckets")
    peek.add_argument("principal", nargs="?", metavar="PRINCIPAL", help=_PRINCIPAL)
    peek.add_argument("--key", metavar="NAME", help="the client with this API key")
    reset = _add(limits, "reset", "buckets:reset", "fill a client's buckets again")
    reset.add_argument("principal", metavar="PRINCIPAL", help=_PRINCIPAL)
    reset.add_argument("policy", nargs="?", metavar="POLICY", help="only this one's")
    key = _add(limits, "key", "limits:key", "make an API key and the lines that let it in")
    key.add_argument("name", metavar="NAME")
    key.add_argument("--tier", metavar="TIER", help="a tier of limits.toml")
    apply = _add(limits, "apply", "limits:apply", "let a file's limits hold for the whole fleet")
    apply.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="default: limits.toml of the settings"
    )
    _add(limits, "revert", "limits:revert", "let every worker's own files hold again")
    trial = _add(limits, "shadow", "limits:shadow", "put a policy on trial, or enforce it again")
    trial.add_argument("policy", metavar="POLICY")
    trial.add_argument("switch", choices=("on", "off"), help="on: count only, refuse nothing")
    trial.add_argument("--reason", required=True, metavar="TEXT", help="kept in the history")
    _add(limits, "history", "limits:history", "show who changed limits while they held")

    breaker = _group(commands, "breaker", "the circuit breaker of the payment service")
    shown = _add(breaker, "show", "breaker:show", "show its state for the whole fleet")
    shown.add_argument(
        "--events",
        type=_count,
        default=10,
        metavar="N",
        help="so many of its latest transitions (default: %(default)s)",
    )
    force = _add(breaker, "force", "breaker:force", "hold it open or closed for a time")
    force.add_argument("state", choices=("open", "closed"))
    force.add_argument(
        "--for", type=_seconds, required=True, dest="seconds", metavar="SECONDS", help="how long"
    )
    force.add_argument("--reason", required=True, metavar="TEXT", help="kept in its history")
    close = _add(breaker, "reset", "breaker:reset", "close it and forget what it has counted")
    close.add_argument("--reason", default="", metavar="TEXT", help="kept in its history")

    jobs = _group(commands, "jobs", "jobs")
    show = _add(jobs, "show", "jobs:show", "show a job and its history, but not its input")
    show.add_argument("id", type=UUID, metavar="ID")
    oldest = _add(jobs, "list", "jobs:listing", "list jobs that are not through, the oldest first")
    oldest.add_argument(
        "--state",
        action="append",
        default=[],
        choices=_JOB_STATES,
        help="jobs in this state instead (may be repeated)",
    )
    oldest.add_argument(
        "--limit", type=_count, default=50, metavar="N", help="at most so many (default: 50)"
    )

    _add(commands, "openapi", "openapi:show", "print the OpenAPI document")

    config = _group(commands, "config", "the settings")
    _add(config, "check", "config:check", "check and show the settings in effect, secrets masked")
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, place: str, text: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    parser.set_defaults(command=place)
    return parser


def _group(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    parser = commands.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    return parser.add_subparsers(title="commands", metavar="COMMAND", required=True)


def _count(text: str) -> int:
    with suppress(ValueError):
        if 1 <= (count := int(text)) <= 10_000:
            return count
    raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10000")


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (seconds := float(text)) <= 86400:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
