"""``make load``: scenarios run against a fleet, judged, and kept as records and pages."""

from __future__ import annotations

import argparse
import asyncio
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import isnan, nan
from pathlib import Path

from scripts.bench.load import LoadFailed
from scripts.devservers import ServersUnavailable
from scripts.fleet.balancer import NginxMissing
from scripts.ground import say, short, take_stop_signals
from scripts.load import fleet, scenario
from scripts.load.asking.crew import GeneratorFailed
from scripts.load.fleet import Size, Target, TargetRefused
from scripts.load.judging import baseline, thresholds
from scripts.load.judging.results import MOST_LATE_MS
from scripts.load.principals import usual
from scripts.load.record import Record
from scripts.load.report import page, report
from scripts.load.run import Options, run
from scripts.load.scenario import Scenario, ScenarioInvalid
from scripts.load.stock import StockFailed
from scripts.load.table import table
from scripts.running import ROOT, RUN
from service.errors import ConfigurationError

OUT = ROOT / "build" / "load"
EXIT_FAILED, EXIT_USAGE, EXIT_MISSING, EXIT_STOPPED = 1, 2, 127, 130
#: Beside each other at the least: one must not wait while the other opens connections.
_FEWEST_PROCESSES, _MOST_PROCESSES = 2, 8


def main() -> int:
    arguments = _parser().parse_args()
    take_stop_signals()
    try:
        return _main(arguments)
    except KeyboardInterrupt:
        say("Stopped.")
        return EXIT_STOPPED
    except NginxMissing as error:
        return _complain(error, EXIT_MISSING)
    except (
        ScenarioInvalid,
        TargetRefused,
        ConfigurationError,
        thresholds.ThresholdsUnreadable,
        baseline.BaselineUnusable,
    ) as error:
        return _complain(error, EXIT_USAGE)
    except (ServersUnavailable, GeneratorFailed, LoadFailed, StockFailed, OSError) as error:
        return _complain(error, EXIT_FAILED)


def _main(arguments: argparse.Namespace) -> int:
    limits = thresholds.read(arguments.thresholds)
    wanted = [scenario.read(name) for name in arguments.scenario.split(",")]
    earlier = {
        one.name: baseline.read(arguments.baseline, one.name)
        for one in wanted
        if arguments.baseline
    }
    target = None
    if arguments.target:
        target = fleet.named(arguments.target, remote=arguments.remote, data=arguments.data)
    for one in wanted:
        _check(one, arguments, target)
    if target is not None:
        fleet.expect_somebody(target)
    records = []
    with ExitStack() as stack:
        for one, there in _targets(
            wanted, target, Size(arguments.replicas, arguments.workers), stack
        ):
            options = _options(one, there, arguments)
            say(f"\n{one.title}: {options.seconds:g} s at {there.url}")
            measured = asyncio.run(run(one, there, options))
            verdicts = thresholds.judge(measured, limits, earlier.get(one.name))
            record = measured.model_copy(update={"verdicts": verdicts})
            records.append(record)
            _keep(record, earlier.get(one.name), arguments.out)
            say(table(record))
    if len(records) > 1:
        index = arguments.out / "index.html"
        index.write_text(page(records, earlier))
        say(f"\nAll of them: {short(index)}")
    return 0 if all(record.passed for record in records) else EXIT_FAILED


def _targets(
    wanted: list[Scenario], target: Target | None, size: Size, stack: ExitStack
) -> Iterator[tuple[Scenario, Target]]:
    """Each scenario with whom to ask: one fleet for those in a row that want the same of it."""
    last: Scenario | None = None
    there = target
    for one in wanted:
        if target is None and (last is None or one.fleet_environment != last.fleet_environment):
            stack.close()  # the fleet of the last one
            say(f"Starting {size.replicas} replicas with {size.workers} workers each ...")
            there = stack.enter_context(fleet.started(one.fleet_environment, size))
        last = one
        assert there is not None  # noqa: S101 (started just above)
        yield one, there


def _check(one: Scenario, arguments: argparse.Namespace, target: Target | None) -> None:
    """What can be known to go wrong before a fleet is started."""
    if arguments.rate is not None and one.rate is None:
        raise ScenarioInvalid(f"{one.name} asks as fast as answers come: a rate means nothing")
    sandboxed = target is None or (
        target.service is not None and target.service.payment_url is not None
    )
    if (one.buys or one.faults) and not sandboxed:
        raise TargetRefused(
            f"{one.name} needs the sandbox payment service; leave TARGET out, or name a service"
            " that make run or make fleet has started here"
        )


def _options(one: Scenario, target: Target, arguments: argparse.Namespace) -> Options:
    processes = max(_FEWEST_PROCESSES, min(_MOST_PROCESSES, (os.cpu_count() or 1) // 2))
    return Options(
        seconds=arguments.duration or one.duration_s,
        factor=1.0 if arguments.rate is None or one.rate is None else arguments.rate / one.rate,
        seed=arguments.seed,
        processes=arguments.processes or processes,
        by=arguments.by or usual(target.host),
        most_late_ms=arguments.late,
        command=shlex.join(["python", "-m", "scripts.load", *sys.argv[1:]]),
    )


def _keep(record: Record, earlier: Record | None, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{record.scenario}.json"
    file.write_text(record.model_dump_json(indent=1))
    shown = file.with_suffix(".html")
    shown.write_text(report(record, earlier))
    say(f"Kept as {short(file)}, shown in {short(shown)}")


def _complain(error: Exception, code: int) -> int:
    print(f"make load: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.load",
        description="Load tests: scenarios against a fleet, judged and shown.",
        epilog=f"Scenarios: {', '.join(scenario.names())}",
    )
    parser.add_argument("--scenario", default="browse", help="names or files, with commas between")
    parser.add_argument("--target", metavar="URL", help="default: a fleet of its own")
    parser.add_argument("--remote", action="store_true", help="the target may be another machine")
    parser.add_argument(
        "--data", type=Path, default=RUN, metavar="DIRECTORY", help="where the target has its notes"
    )
    parser.add_argument("--duration", type=_positive, metavar="SECONDS")
    parser.add_argument("--rate", type=_positive, help="requests per second, over all clients")
    parser.add_argument("--seed", type=_seed, default=1)
    parser.add_argument("--replicas", type=_count, default=3)
    parser.add_argument("--workers", type=_count, default=2, help="of each replica")
    parser.add_argument("--processes", type=_count, help="of the generator")
    parser.add_argument(
        "--by",
        choices=("source", "forwarded"),
        help="clients are told apart by their own loopback addresses, or by X-Forwarded-For",
    )
    parser.add_argument(
        "--late",
        type=_positive,
        default=MOST_LATE_MS,
        metavar="MS",
        help="so late (99th percentile) a generator may be where machines are shared",
    )
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="an earlier record")
    parser.add_argument("--thresholds", type=Path, default=thresholds.FILE, metavar="FILE")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIRECTORY")
    return parser


def _positive(text: str) -> float:
    return _within(float, text, lambda number: 0 < number < float("inf"), "a number above 0")


def _count(text: str) -> int:
    return int(_within(int, text, lambda number: 1 <= number <= 100, "a number from 1 to 100"))


def _seed(text: str) -> int:
    return int(_within(int, text, lambda _: True, "a whole number"))


def _within(
    read: Callable[[str], float], text: str, holds: Callable[[float], bool], what: str
) -> float:
    try:
        number = read(text)
    except ValueError:
        number = nan
    if isnan(number) or not holds(number):
        raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
    return number


if __name__ == "__main__":
    sys.exit(main())
