"""Every Lua script of the service with a call that works, for tests of where scripts may run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from service.store import keys
from service.store.client import Store

ROOT = Path(__file__).resolve().parents[2] / "service"

_BUCKETS = [keys.bucket(name, "client:10.0.0.9", shadow=False) for name in ("one", "two")]
_BREAKER = [keys.breaker("payment"), keys.breaker_events("payment")]
_VALUE = [keys.cache_value("flow", "a"), keys.cache_fence("flow", "a")]
_FLEET = [
    *(keys.fleet_workers(), keys.fleet_reports()),
    *(keys.fleet_samples(), keys.fleet_salt()),
]

#: Package and name: keys, arguments.
CALLS: dict[tuple[str, str], tuple[Sequence[str], Sequence[str | int | bytes]]] = {
    ("admission", "take"): (_BUCKETS, [0, 1, 1000, 9000, 0, 1000, 9000, 0]),
    ("admission", "refund"): (_BUCKETS, [0, 1000, 1000]),
    ("admission", "settle"): (_BUCKETS[:1], [0, 0, 1000, 9000]),
    ("admission", "heartbeat"): ([keys.workers()], [0, "worker", 5000]),
    ("admission", "publish"): ([keys.rules(), keys.rule_changes()], [0, "{}", "who", 10]),
    ("breaker", "acquire"): (_BREAKER, ["token", 1000, "worker", 60_000, 10]),
    ("breaker", "report"): (
        _BREAKER,
        [0, "token", "fail", "member", 3, 1000, "why", "worker", 60_000, 10],
    ),
    ("breaker", "force"): (_BREAKER, ["open", 1000, "who", "why", "worker", 60_000, 10]),
    ("breaker", "pause"): (_BREAKER[:1], [1000, 60_000]),
    ("breaker", "peek"): (_BREAKER[:1], []),
    ("cache", "get"): (_VALUE, [60_000, "token", 1000, 2000, 0]),
    ("cache", "put"): (_VALUE, [1, 1, "value", 0, 1000, 2000]),
    ("cache", "release"): (_VALUE[1:], ["token", 0, 60_000]),
    ("cache", "invalidate"): (_VALUE, [60_000, keys.cache_channel("flow"), "a", "1"]),
    ("fleet", "report"): (_FLEET, ["worker", "{}", 5000, 5000, 10, "salt", 60_000]),
    ("fleet", "collect"): (_FLEET[:2], [5000]),
    ("fleet", "sample"): (_FLEET[2:3], ["{}", 5000, 10, 60_000]),
    ("store", "probe"): ([keys.probe(0)], [1000]),
}


def files() -> dict[tuple[str, str], Path]:
    """Where each script there is stands."""
    return {(path.parent.name, path.stem): path for path in ROOT.rglob("*.lua")}


async def call_every_script(store: Store) -> None:
    for (package, name), (names, args) in CALLS.items():
        await store.script(f"service.{package}", name, keys=None)(names, args)
