"""Records of load tests that never ran: one with everything in it, and the means to make others."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from scripts.load.asking.histogram import Histogram
from scripts.load.record import (
    Admissions,
    Costs,
    Event,
    Fleet,
    GeneratorState,
    Kind,
    Latency,
    Machine,
    Offered,
    Record,
    Reference,
    Requests,
    Sales,
    Sample,
    Second,
)


def latency(values_ms: Iterable[float]) -> Latency | None:
    """As a generator sums it up."""
    histogram = Histogram()
    for value in values_ms:
        histogram.record(max(1, round(value * 1000)))
    return histogram.latency()


def drawn(seed: int, count: int, median_ms: float, *, spread: float = 0.5) -> Latency | None:
    """A long tail, as latencies have."""
    lot = random.Random(seed)
    return latency(median_ms * math.exp(lot.gauss(0, spread)) for _ in range(count))


def requests(
    group: str, route: str, latency_of: Latency | None, refused: Latency | None = None, **of: Any
) -> Requests:
    """``of``: kinds, and what else the record holds."""
    kinds: dict[Kind, int] = of.pop("kinds", None) or {"ok": latency_of.count if latency_of else 0}
    return Requests(
        group=group,
        route=route,
        sent=of.pop("sent", sum(kinds.values())),
        kinds=kinds,
        statuses=of.pop("statuses", {200: kinds.get("ok", 0)}),
        problems=of.pop("problems", {}),
        errors=of.pop("errors", {}),
        latency=latency_of,
        refusal_latency=refused,
    )


def admitted(policy: str, group: str, **fields: Any) -> Admissions:
    return Admissions(
        **{
            "policy": policy,
            "group": group,
            "rate_per_s": 1.0,
            "burst": 60,
            "principals": 40,
            "offered": 2400,
            "admitted": 2400,
            "allowed": 7200.0,
            "worst_excess": -12.0,
            "worst_window_s": 31.5,
            "worst_principal": "10.1.0.7",
            "least": 58,
            "most": 62,
            "fairness": 0.9993,
            **fields,
        }
    )


def small(**fields: Any) -> Record:
    """One second of one route; whatever is given stands in place of it."""
    return Record(
        **{
            "scenario": "browse",
            "title": "Browsing",
            "purpose": "Readers of the catalogue.",
            "command": "make load SCENARIO=browse DURATION=1",
            "target": "http://127.0.0.1:8080",
            "began": datetime(2026, 11, 23, 20, 15, tzinfo=UTC),
            "seconds": 1.0,
            "seed": 7,
            "machine": machine(),
            "fleet": None,
            "offered": Offered(schedule="constant 100/s", rate=100.0, connections=8, principals=20),
            "generator": generator(),
            "requests": [requests("all", "GET /flows", drawn(1, 100, 4.0))],
            "seconds_of": [second(0, "all", due=100, kinds={"ok": 100})],
            "admissions": [],
            "sales": None,
            "samples": [],
            "costs": None,
            "events": [],
            "verdicts": [],
            **fields,
        }
    )


def machine(**fields: Any) -> Machine:
    return Machine(
        **{
            "cpu": "Intel Xeon (KVM)",
            "cores": 2,
            "memory_mib": 7936,
            "system": "Linux 6.18",
            "python": "3.11.2",
            "packages": {"aiohttp": "3.14.5", "redis": "8.1.0", "uvloop": "0.23.0"},
            **fields,
        }
    )


def generator(**fields: Any) -> GeneratorState:
    return GeneratorState(
        **{
            "processes": 2,
            "cpu_share": [0.41, 0.38],
            "late_p99_ms": 0.8,
            "bottleneck": False,
            "says": "Requests left within 0.8 ms of when they were due (p99).",
            **fields,
        }
    )


def second(at: int, group: str, **fields: Any) -> Second:
    return Second(
        **{
            "at": at,
            "group": group,
            "due": 0,
            "kinds": {},
            "p50_ms": 4.0,
            "p99_ms": 19.0,
            "max_ms": 31.0,
            "in_flight": 3,
            **fields,
        }
    )


def sample(at: float, **fields: Any) -> Sample:
    return Sample(
        **{
            "at": at,
            "cpu_s": {"workers": at * 0.9, "nginx": at * 0.1, "redis": at * 0.06},
            "redis_commands": int(at * 300),
            "redis_bytes": int(at * 40_000),
            "queries": int(at * 20),
            "pool_in_use": 2,
            "pool_size": 40,
            "in_flight": 5,
            "shed": 0,
            "denied_locally": 0,
            "breaker": "closed",
            **fields,
        }
    )


def rich(*, seconds: int = 90, slower: float = 1.0, seed: int = 5) -> Record:
    """Sales beside an abuser, a spike, a payment service that fails for a while: all at once."""
    lot = random.Random(seed)
    outage = range(seconds // 2, seconds // 2 + seconds // 6)
    timeline = [
        one
        for at in range(seconds)
        for one in (
            _polite(lot, at, slower, broken=at in outage),
            _abuser(lot, at, slower, begins=seconds // 4),
        )
    ]
    return small(
        scenario="abuse",
        title="One abuser beside polite clients",
        purpose="Whoever asks a hundred times what is allowed must not be felt by the others.",
        command="make load SCENARIO=abuse SEED=5",
        seconds=float(seconds),
        seed=seed,
        fleet=Fleet(replicas=3, workers=2, environment={"TOLLGATE_SERVER__WORKERS": "2"}),
        offered=Offered(
            schedule="polite: Poisson 90/s; abuser: constant 400/s from 0:22",
            rate=420.0,
            connections=64,
            principals=41,
        ),
        requests=_routes(timeline, slower),
        seconds_of=timeline,
        admissions=_admissions(),
        sales=_sales(slower),
        samples=_samples(lot, seconds, outage, slower),
        references=[
            Reference(
                program="wrk",
                command="wrk -t12 -c400 -d30s --latency http://127.0.0.1:8080/health",
                per_second=3120.0,
                p50_ms=118.0,
                p99_ms=204.0,
                ours_per_second=3044.0,
            )
        ],
        costs=Costs(
            cpu_us={
                "workers": 168.4 * slower,
                "nginx": 22.1,
                "redis": 11.8,
                "postgres": 31.0,
                "sandbox": 9.3,
            },
            redis_commands=0.31,
            redis_bytes=142.0,
            queries=0.12,
        ),
        events=[
            Event(at=0.0, kind="fleet", text="3 replicas of 2 workers are ready"),
            Event(at=seconds / 4, kind="generator", text="abuser begins: 400/s"),
            Event(at=outage[0] + 0.4, kind="breaker", text="payment: closed → open (5 failures)"),
            Event(at=outage[0] + 0.6, kind="degraded", text="payments: circuit open"),
            Event(at=outage[0] + 2.0, kind="shed", text="12 requests shed: in-flight limit"),
            Event(at=outage[0] + 5.4, kind="breaker", text="payment: open → half-open"),
            Event(at=outage[0] + 5.5, kind="breaker", text="payment: half-open → open (timeout)"),
            Event(at=outage[-1] + 1.2, kind="breaker", text="payment: half-open → closed"),
        ],
    )


def _polite(lot: random.Random, at: int, slower: float, *, broken: bool) -> Second:
    due = max(1, round(lot.gauss(90, 9)))
    unavailable = round(due * 0.12) if broken else 0
    failed = 1 if broken and at % 7 == 0 else 0
    p50 = lot.gauss(4.4, 0.3) * slower
    p99 = p50 * lot.uniform(3, 5) * (4 if broken else 1)
    return second(
        at,
        "polite",
        due=due,
        kinds={"ok": due - unavailable - failed, "unavailable": unavailable, "failed": failed},
        p50_ms=p50,
        p99_ms=p99,
        max_ms=p99 * lot.uniform(1.1, 3),
        in_flight=round(lot.uniform(1, 30 if broken else 6)),
    )


def _abuser(lot: random.Random, at: int, slower: float, *, begins: int) -> Second:
    if at < begins:
        return second(at, "abuser", p50_ms=None, p99_ms=None, max_ms=None, in_flight=0)
    due = round(lot.gauss(400, 12))
    ok = 60 if at == begins else 1
    p50 = lot.gauss(4.6, 0.4) * slower
    return second(
        at,
        "abuser",
        due=due,
        kinds={"ok": ok, "denied": due - ok},
        p50_ms=p50,
        p99_ms=p50 * 4,
        max_ms=p50 * 6,
        in_flight=round(lot.uniform(1, 9)),
    )


def _routes(timeline: Sequence[Second], slower: float) -> list[Requests]:
    total: Counter[tuple[str, str]] = Counter()
    for one in timeline:
        total.update({(one.group, kind): count for kind, count in one.kinds.items()})
    ok, unavailable = total["polite", "ok"], total["polite", "unavailable"]
    failed, denied = total["polite", "failed"], total["abuser", "denied"]
    found = []
    for seed, (route, share, median) in enumerate(
        (
            ("GET /flows", 0.22, 2.6),
            ("GET /flows/{flow}", 0.28, 3.1),
            ("GET /{flow}/availability", 0.15, 2.9),
            ("GET /{flow}/status", 0.25, 5.2),
        )
    ):
        found.append(requests("polite", route, drawn(seed, int(ok * share), median * slower)))
    sold = int(ok * 0.1)
    found.append(
        requests(
            "polite",
            "POST /{flow}/start_job",
            drawn(11, sold, 21.0 * slower, spread=0.8),
            drawn(12, unavailable, 2.2),
            kinds={"ok": sold, "unavailable": unavailable, "failed": failed, "refused": 2},
            statuses={201: sold, 503: unavailable, 500: failed - 1, 400: 2},
            problems={"circuit-open": unavailable - 9, "overloaded": 9, "invalid-input": 2},
            errors={"timeout": 1},
        )
    )
    found.append(
        requests(
            "abuser",
            "GET /{flow}/status",
            drawn(13, total["abuser", "ok"], 4.6 * slower),
            drawn(14, min(denied, 9000), 1.2 * slower),
            kinds={"ok": total["abuser", "ok"], "denied": denied},
            statuses={200: total["abuser", "ok"], 429: denied},
            problems={"quota-exceeded": denied},
        )
    )
    return found


def _admissions() -> list[Admissions]:
    return [
        admitted(
            "flows", "polite", rate_per_s=0.5, burst=30, offered=1900, admitted=1900,
            allowed=3000.0, least=41, most=55, fairness=0.9921,
        ),
        admitted("status", "polite"),
        admitted(
            "start_job", "polite", rate_per_s=1 / 6, burst=10, offered=742, admitted=742,
            allowed=1000.0, worst_excess=0.0, least=11, most=25, fairness=0.9411,
        ),
        admitted(
            "status", "abuser", principals=1, offered=27_310, admitted=128, allowed=127.5,
            worst_excess=0.46, worst_window_s=67.5, worst_principal="10.9.0.1", least=128,
            most=128, fairness=1.0,
        ),
    ]  # fmt: skip


def _sales(slower: float) -> Sales:
    return Sales(
        begun=742,
        refused=98,
        paid=611,
        completed=607,
        failed=3,
        lost=1,
        doubled=0,
        wrong_hashes=0,
        wrong_times=0,
        findings=["job 5d1f0c2e: paid at 0:49, and still awaiting_payment 60 s later"],
        latency=drawn(21, 607, 2300 * slower, spread=0.35),
    )


def _samples(lot: random.Random, seconds: int, outage: range, slower: float) -> list[Sample]:
    cpu = dict.fromkeys(("workers", "nginx", "redis", "postgres", "sandbox"), 0.0)
    commands = queries = sent = shed = local = 0
    found = []
    for at in range(seconds + 1):
        busy = 1.0 if at < seconds // 4 else 1.7
        for part, share in zip(cpu, (0.52 * slower, 0.07, 0.04, 0.06, 0.02), strict=True):
            cpu[part] += max(0.0, share * busy * lot.uniform(0.85, 1.15))
        commands += round(120 * busy * lot.uniform(0.9, 1.1))
        sent += round(18_000 * busy)
        queries += round(40 * lot.uniform(0.8, 1.2))
        broken = at in outage
        shed += 3 if broken and at % 2 else 0
        local += 330 if at > seconds // 4 else 0
        opened = "half-open" if at == outage[0] + 5 else "open"
        found.append(
            sample(
                float(at), cpu_s=dict(cpu), redis_commands=commands, redis_bytes=sent,
                queries=queries, pool_in_use=round(lot.uniform(1, 34 if broken else 8)),
                in_flight=round(lot.uniform(2, 40 if broken else 12)), shed=shed,
                denied_locally=local, breaker=opened if broken else "closed",
            )
        )  # fmt: skip
    return found
