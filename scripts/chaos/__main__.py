"""What ``make chaos`` executes; ends with 1 where anything was lost, or charged or done twice."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import sys
from pathlib import Path

from scripts.account import ServersUnavailable, scratch
from scripts.chaos import report
from scripts.chaos.drill import Plan, drill
from scripts.running import ROOT

RESULT = ROOT / "build" / "chaos.json"
PAGE = ROOT / "docs" / "chaos.md"


def main() -> int:
    arguments = _parser().parse_args()
    plan = Plan(arguments.kills, arguments.seed, arguments.purchasers, measure=True)
    print(f"Selling while {plan.kills} processes are killed (seed {plan.seed}) ...", flush=True)
    home = scratch()
    try:
        findings = asyncio.run(drill(home, plan))
    except ServersUnavailable as error:
        print(f"make chaos: {error}", file=sys.stderr)
        return 1
    finally:
        _keep_logs(home)
    print(report.text(findings))
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report.document(findings), indent=2) + "\n")
    if arguments.record:
        report.record(findings, PAGE)
    return 0 if findings.in_order else 1


def _keep_logs(home: Path) -> None:
    """What the replicas said is needed where the books are not in order; data is not."""
    kept = RESULT.parent / "chaos"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for log in home.glob("*.log"):
        shutil.move(log, kept / log.name)
    shutil.rmtree(home)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m scripts.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    parser.add_argument("--purchasers", type=int, default=24, help="at the same time")
    parser.add_argument("--record", action="store_true", help=f"write it into {PAGE.name}, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
