from __future__ import annotations

import pytest

from scripts.bench.load import LoadFailed, Outcome, read_wrk

REPORT = """Running 2s test @ http://127.0.0.1:8000/health
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.11ms    1.80ms  21.29ms   91.20%
    Req/Sec    21.56k     3.01k   26.04k    75.00%
  Latency Distribution
     50%    2.79ms
     75%    3.31ms
     90%  950.00us
     99%   12.05ms
  43104 requests in 2.01s, 8.10MB read
  Non-2xx or 3xx responses: 42
Requests/sec:  21437.11
Transfer/sec:      4.03MB
"""


def test_report_of_wrk_becomes_figures() -> None:
    assert read_wrk(REPORT) == Outcome(43104, 42, 2.01, 2.79, 12.05)


def test_units_of_wrk_are_told_apart() -> None:
    fast = REPORT.replace(" 2.79ms", "350.00us").replace("12.05ms", "1.50s ")
    assert read_wrk(fast).p50_ms == pytest.approx(0.35)
    assert read_wrk(fast).p99_ms == pytest.approx(1500)


def test_run_with_failed_sockets_has_no_figures() -> None:
    failed = REPORT + "  Socket errors: connect 0, read 3, write 0, timeout 0\n"
    with pytest.raises(LoadFailed):
        read_wrk(failed)
