"""What is taken from the records of ``make load``."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from scripts.capacity.__main__ import main
from scripts.capacity.coefficients import read
from scripts.capacity.records import seen, with_nginx
from scripts.load.record import (
    Costs,
    Fleet,
    GeneratorState,
    Machine,
    Offered,
    Record,
    Requests,
)

COEFFICIENTS = Path(__file__).with_name("coefficients.toml")
COST = read(COEFFICIENTS)


def record(
    *, rate: float | None = None, route: str = "GET /health", nginx_us: float = 20.0
) -> Record:
    asked = Requests(
        group="wrk", route=route, sent=1_000, kinds={"ok": 750, "denied": 250}, statuses={},
        problems={}, errors={}, latency=None, refusal_latency=None,
    )  # fmt: skip
    return Record(
        scenario="wrk", title="", purpose="", command="", target="", began=datetime.now(UTC),
        seconds=10.0, seed=1,
        machine=Machine(cpu="", cores=2, memory_mib=1, system="", python="", packages={}),
        fleet=Fleet(replicas=3, workers=2, environment={}),
        offered=Offered(schedule="", rate=rate, connections=1, principals=1),
        generator=GeneratorState(
            processes=1, cpu_share=[0.5], late_p99_ms=0.0, bottleneck=False, says=""
        ),
        requests=[asked], seconds_of=[], admissions=[], sales=None, samples=[],
        costs=Costs(
            cpu_us={"workers": 60.0, "nginx": nginx_us},
            redis_commands=None, redis_bytes=None, queries=None,
        ),
        events=[], verdicts=[],
    )  # fmt: skip


def test_full_load_is_foretold_by_what_was_admitted_and_what_not() -> None:
    [one] = seen([record()], COST)
    health, denied = COST.routes["health"].worker_us, COST.routes["denied"].worker_us
    shared = 1 + 0.02 * 5 + COST.contention.kappa * 6 * 5
    assert one.foretold_us == pytest.approx((0.75 * health + 0.25 * denied) * shared)
    assert (one.worker_us, one.nginx_us, one.requests) == (60.0, 20.0, 1_000)


def test_runs_that_can_not_tell_are_left_out() -> None:
    assert seen([record(rate=100.0)], COST) == []
    assert seen([record(route="POST /{flow}/start_job")], COST) == []
    assert seen([record(nginx_us=0.0)], COST) == []


def test_nginx_costs_what_it_took_in_the_middle_run() -> None:
    found = seen([record(nginx_us=us) for us in (90.0, 21.0, 20.0)], COST)
    fitted = with_nginx(COST, found)
    assert fitted.limits.nginx_us == 21.0
    assert fitted.routes == COST.routes


def test_command_writes_it_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, run = tmp_path / "capacity.toml", tmp_path / "wrk.json"
    shutil.copyfile(COEFFICIENTS, file)
    run.write_text(record(nginx_us=33.0).model_dump_json())
    assert main(["--coefficients", str(file), "fit", str(run)]) == 0
    assert "| wrk | 1,000 |" in capsys.readouterr().out
    assert read(file).limits.nginx_us == 33.0
    run.write_text(record(rate=5.0).model_dump_json())
    assert main(["--coefficients", str(file), "fit", str(run)]) == 2
