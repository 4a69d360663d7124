"""``make load`` in short: a service that keeps its promises passes, and no other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.keeper import family
from scripts.load.judging import thresholds
from scripts.load.record import Record
from scripts.processes import running
from scripts.running import ROOT
from tests.e2e.conftest import LIFTED, Site, ask, site
from tests.support.servers import Servers
from tests.support.waiting import eventually

#: What the service has, and what the defective scenario expects of it.
LIMIT, EXPECTED = 40, 20
SCENARIO = """
title = "Short"
purpose = "Everything a load test looks at, in a second or two."
duration_s = 1.5

[limits.flows]
rate = "{limit}/minute"

[[groups]]
name = "visitors"
principals = 50
connections = 50
schedule = {{ kind = "poisson", rate = 80 }}
routes = [
    {{ name = "GET /flows", path = "/flows" }},
    {{ name = "GET /{{flow}}/input_schema", path = "/text-summary/input_schema" }},
]

[[groups]]
name = "abuser"
connections = 4
schedule = {{ kind = "constant", rate = 100 }}
routes = [{{ name = "GET /flows/{{flow}}", path = "/flows/text-summary" }}]

[[groups]]
name = "purchasers"
principals = 8
connections = 32
timeout_s = 30
schedule = {{ kind = "constant", rate = 2 }}

[groups.purchase]
flow = "text-summary"
patience_s = {patience_s}
input_data = {{ text = "Bees make honey. Bees live in hives. A hive has one queen." }}
"""
#: The first address after those of the visitors.
ABUSER = "127.1.0.51"
#: The payment service takes its time with each purchase.
SLOW = """
[[faults]]
begins = 0
ends = 1
route = "POST /payment"
kind = "latency"
seconds = 2
"""
THRESHOLDS = """
[scenario.{name}]
visitors = {{ measure = "denied", group = "visitors", at_most = 0 }}

[scenario.{name}.starting]
measure = "p99_ms"
group = "purchasers"
route = "POST /{{flow}}/start_job"
at_most = 1900
"""


@pytest.fixture(scope="module")
def shop(servers: Servers) -> Iterator[Site]:
    limits = {**LIFTED, "TOLLGATE_LIMITS__FLOWS__RATE": f"{LIMIT}/minute"}
    brisk = {"TOLLGATE_SERVER__WORKERS": "2", "TOLLGATE_PAYMENT__POLL_INTERVAL": "0.2"}
    with site(servers, **limits, **brisk) as made:
        yield made


def prepare(shop: Site, *, confirm_after_s: float) -> None:
    """How long payments and results take to get on chain; the abuser's bucket is full."""
    url = f"{shop.running.service.payment_url}/control/pace"
    assert ask(url, json.dumps({"confirm_after_s": confirm_after_s}).encode()).status == 200
    shop.tollgate("limits", "reset", ABUSER)


def load(shop: Site, folder: Path, name: str, text: str) -> tuple[int, Record, str, str]:
    """Exit code, record, page and what was said."""
    (folder / f"{name}.toml").write_text(text)
    rules = folder / "rules.toml"
    rules.write_text(thresholds.FILE.read_text() + THRESHOLDS.format(name=name))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "scripts.load", "--scenario", str(folder / f"{name}.toml")),
            *("--target", shop.running.service.url, "--data", str(shop.home)),
            *("--thresholds", str(rules), "--out", str(folder)),
            # The machine is busy with other tests.
            *("--late", "5000"),
        ],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=55,
    )  # fmt: skip
    file = folder / f"{name}.json"
    assert file.exists(), done.stdout + done.stderr
    page = (folder / f"{name}.html").read_text()
    return done.returncode, Record.model_validate_json(file.read_text()), page, done.stdout


def test_a_service_that_keeps_its_promises_passes(shop: Site, tmp_path: Path) -> None:
    prepare(shop, confirm_after_s=0.1)

    code, record, page, said = load(
        shop, tmp_path, "short", SCENARIO.format(limit=LIMIT, patience_s=30)
    )

    assert [verdict for verdict in record.verdicts if not verdict.passed] == []
    assert code == 0, said
    by_group = {one.group: one for one in record.requests}
    assert by_group["visitors"].kinds.keys() == {"ok"}
    assert by_group["abuser"].kinds["denied"] > LIMIT
    (abuser,) = [one for one in record.admissions if one.group == "abuser"]
    assert LIMIT - 5 <= abuser.admitted <= abuser.allowed
    assert record.sales is not None
    assert (record.sales.begun, record.sales.completed) == (3, 3)
    assert record.samples[-1].redis_commands > 0
    assert record.costs is not None
    assert record.costs.cpu_us["workers"] > 0
    assert sum(second.due for second in record.seconds_of) == sum(r.sent for r in record.requests)
    assert "Short" in page


def test_what_breaks_its_promises_is_named_and_fails(shop: Site, tmp_path: Path) -> None:
    """A limit that lets in more than expected, a slow route, and jobs that are lost."""
    prepare(shop, confirm_after_s=3600)

    code, record, page, said = load(
        shop, tmp_path, "defective", SCENARIO.format(limit=EXPECTED, patience_s=1) + SLOW
    )

    failed = {verdict.measure: verdict for verdict in record.verdicts if not verdict.passed}
    assert code == 1
    assert failed.keys() == {"worst_excess", "lost", "p99_ms"}
    for verdict in failed.values():
        assert f"FAILED {verdict.name}" in said
        assert verdict.name.split(":")[0] in page
    worst = max(one.worst_excess for one in record.admissions)
    assert worst == pytest.approx(LIMIT - EXPECTED, abs=6)
    assert record.sales is not None
    assert record.sales.lost == 3


def test_a_generator_that_is_lost_ends_the_run_with_a_line(shop: Site, tmp_path: Path) -> None:
    program = subprocess.Popen(
        [
            *(sys.executable, "-m", "scripts.load", "--target", shop.running.service.url),
            *("--duration", "60", "--processes", "2", "--out", str(tmp_path)),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        eventually(lambda: len(family(program.pid)) == 3, within_s=30, what="generators run")
        everybody = family(program.pid)
        os.kill(next(pid for pid in everybody if pid != program.pid), signal.SIGKILL)

        _, said = program.communicate(timeout=60)
        assert program.returncode == 1
        assert said.splitlines() == [
            "make load: a generator ended with code -9 (see above)",
        ]
        assert not {process.pid for process in running()} & set(everybody)
    finally:
        program.kill()
        program.wait()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_no_process(
    shop: Site, tmp_path: Path, number: signal.Signals
) -> None:
    program = subprocess.Popen(
        [
            *(sys.executable, "-m", "scripts.load", "--target", shop.running.service.url),
            *("--duration", "60", "--processes", "2", "--out", str(tmp_path)),
        ],
        cwd=ROOT, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        eventually(lambda: len(family(program.pid)) == 3, within_s=30, what="generators run")
        everybody = family(program.pid)
        program.send_signal(number)

        assert program.wait(30) == 130
        assert not {process.pid for process in running()} & set(everybody)
    finally:
        program.kill()
        program.wait()
