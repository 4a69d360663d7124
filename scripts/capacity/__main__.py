"""``make capacity``, and behind ``python -m scripts.capacity``: measure, fit, validate, page."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from scripts.account import ServersUnavailable, scratch
from scripts.bench.load import LoadFailed, fastest
from scripts.capacity.coefficients import FILE, ROUTES, Coefficients, Limits, Route, read, text
from scripts.capacity.measure import Scale, measured
from scripts.capacity.model import plan
from scripts.capacity.models import USUAL, Demand
from scripts.capacity.page import page
from scripts.capacity.records import seen, with_nginx
from scripts.capacity.records import table as records_table
from scripts.capacity.table import document, table
from scripts.capacity.validate import calm, calm_table, validated
from scripts.capacity.validate import table as validation_table
from scripts.load.record import Record

#: As argparse does.
EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        cost = read(options.coefficients)
        run: Callable[[argparse.Namespace, Coefficients], int] = options.run
        return run(options, cost)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        print(f"make capacity: {place}: {first['msg']}", file=sys.stderr)
        return EXIT_USAGE
    except (OSError, ValueError) as error:
        print(f"make capacity: {error}", file=sys.stderr)
        return EXIT_USAGE
    except (LoadFailed, ServersUnavailable) as error:
        print(f"capacity: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.capacity",
        description="What a fleet takes for a load, and what breaks first. docs/scaling.md.",
    )
    parser.add_argument("--coefficients", type=Path, default=FILE)
    ways = parser.add_subparsers(required=True)
    planning = ways.add_parser("plan", help="the table for a load")
    planning.set_defaults(run=_plan)
    planning.add_argument("--rate", type=_number, default=1_000.0, help="requests/s")
    planning.add_argument("--principals", type=_number, default=1_000.0)
    planning.add_argument("--jobs", type=_number, default=0.0, help="started, a second")
    planning.add_argument("--paid", type=_number, default=0.9, help="share of the jobs")
    planning.add_argument("--denied", type=_number, default=0.0, help="share of the requests")
    planning.add_argument("--flows", type=_number, default=100.0)
    planning.add_argument("--run-seconds", type=_number, default=1.0, help="of one job")
    planning.add_argument("--mix", type=_mix, default=dict(USUAL), help="flow=3,status=1")
    planning.add_argument("--workers", type=_count, help="what the load does to so many")
    planning.add_argument("--shards", type=_count, help="of Redis")
    planning.add_argument("--pgbouncer", action="store_true", help="before PostgreSQL")
    planning.add_argument(
        "--limit", type=_limit, action="append", default=[], metavar="NAME=VALUE",
        help="another one than the file has: payment_calls_per_s=200",
    )  # fmt: skip
    planning.add_argument("--json", action="store_true")
    measuring = ways.add_parser("measure", help="every coefficient anew, on this machine")
    measuring.set_defaults(run=_measure)
    measuring.add_argument("--seconds", type=float, default=3.0)
    measuring.add_argument("--out", type=Path, help="default: the coefficients' own file")
    telling = ways.add_parser("page", help="the tables of docs/scaling.md that follow from it")
    telling.set_defaults(run=_page)
    fitting = ways.add_parser("fit", help="nginx's cost, by full loads that make load recorded")
    fitting.set_defaults(run=_fit)
    fitting.add_argument("records", type=Path, nargs="+", help="build/load/wrk.json")
    validating = ways.add_parser("validate", help="the model beside 1, 2, 3 and 6 workers here")
    validating.set_defaults(run=_validate)
    validating.add_argument("--seconds", type=float, default=3.0)
    validating.add_argument("--rounds", type=int, default=3)
    return parser


def _plan(options: argparse.Namespace, cost: Coefficients) -> int:
    demand = Demand(
        rate=options.rate,
        principals=int(options.principals),
        jobs=options.jobs,
        paid=options.paid,
        denied=options.denied,
        flows=int(options.flows),
        run_s=options.run_seconds,
        mix=options.mix,
    )
    limits = Limits.model_validate({**cost.limits.model_dump(), **dict(options.limit)})
    cost = cost.model_copy(update={"limits": limits})
    found = plan(
        demand, cost, workers=options.workers, shards=options.shards, pooled=options.pgbouncer
    )
    if options.json:
        print(json.dumps({**document(found), "measured": cost.measured.model_dump()}, indent=2))
    else:
        measured = cost.measured
        print(table(found))
        print(f"\nCoefficients of {measured.at}, {measured.machine}.")
    return 0


def _measure(options: argparse.Namespace, cost: Coefficients) -> int:
    home = scratch()
    try:
        scale = Scale(seconds=options.seconds)
        found = measured(home, fastest(), cost.limits, scale, _say)
    finally:
        shutil.rmtree(home)
    written: Path = options.out or options.coefficients
    written.write_text(text(found))
    _say(f"Written to {written}. For docs/scaling.md: python -m scripts.capacity page")
    return 0


def _fit(options: argparse.Namespace, cost: Coefficients) -> int:
    found = seen([Record.model_validate_json(file.read_bytes()) for file in options.records], cost)
    if not found:
        raise ValueError("none of these runs asked as fast as answers came, behind nginx")
    print(records_table(found))
    options.coefficients.write_text(text(with_nginx(cost, found)))
    return 0


def _page(_options: argparse.Namespace, cost: Coefficients) -> int:
    print(page(cost))
    return 0


def _validate(options: argparse.Namespace, cost: Coefficients) -> int:
    home = scratch()
    try:
        rows = validated(
            home, fastest(), cost,
            seconds=options.seconds, rounds=options.rounds, say=_say,
        )  # fmt: skip
        _say("One worker, calm ...")
        calmly = calm(home / "calm", cost, seconds=options.seconds)
    finally:
        shutil.rmtree(home)
    print(validation_table(rows))
    print(f"\n{calm_table(calmly)}")
    return 0


def _number(written: str) -> float:
    """1000, 1e6, 1_000_000, 1,000,000 or 100k, 1M."""
    factors = {"k": 1e3, "K": 1e3, "M": 1e6}
    plain = written.replace(",", "").replace("_", "")
    factor = factors.get(plain[-1:], 1.0)
    try:
        found = float(plain if factor == 1.0 else plain[:-1]) * factor
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise argparse.ArgumentTypeError(f"{written!r} is no number, such as 1000, 50k or 1M")
    return found


def _count(written: str) -> int:
    number = _number(written)
    if number < 1 or number != int(number):
        raise argparse.ArgumentTypeError(f"{written!r} is no number of them: 1, 2, 3")
    return int(number)


def _limit(written: str) -> tuple[str, float]:
    name, _, value = written.partition("=")
    if name not in Limits.model_fields:
        raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(Limits.model_fields)}")
    return name, _number(value)


def _mix(written: str) -> dict[Route, float]:
    found: dict[Route, float] = {}
    for part in written.split(","):
        name, _, share = part.partition("=")
        route = next((one for one in ROUTES if one == name and one != "denied"), None)
        if route is None:
            raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(USUAL)}")
        found[route] = _number(share)
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
