"""What a service on this machine used between two moments: by part, and by what was asked of it."""

from __future__ import annotations

import os
import re
import resource
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg2
from redis import Redis

from scripts.load.watching.info import Told, read_info
from scripts.load.watching.pages import read_page
from scripts.load.watching.parts import PARTS, Parts

_ATTEMPTS = re.compile(r"^tollgate_payment_attempts_total\{[^}]*\} (\S+)$", re.MULTILINE)
_STAT = Path("/proc/stat")
#: Both at once, without a transaction's number of our own; only those that write have one.
_WRITTEN = """
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
       pg_current_wal_insert_lsn() - '0/0'::pg_lsn
"""
#: Workers hand their counts over once a second.
HANDED_OVER_S = 1.2


@dataclass(frozen=True, slots=True)
class Used:
    """Totals of so many seconds."""

    seconds: float
    cpu_s: Mapping[str, float]
    #: Of this process and of the load generators that it has run.
    generator_s: float
    #: Of all cores together, when nobody wanted them.
    idle_s: float
    redis: Told
    commits: float
    wal_bytes: float
    queries: float
    payment_calls: float

    @property
    def cores(self) -> float:
        """So many could be had: what others on this machine took, or its host, is away."""
        return (sum(self.cpu_s.values()) + self.generator_s + self.idle_s) / self.seconds

    def less(self, other: Self) -> Used:
        """What remains without ``other``, which lasted as long as it did; never below nothing."""
        share = self.seconds / other.seconds

        def left(mine: float, its: float) -> float:
            return max(0.0, mine - its * share)

        return Used(
            seconds=self.seconds,
            cpu_s={part: left(used, other.cpu_s[part]) for part, used in self.cpu_s.items()},
            generator_s=self.generator_s,
            idle_s=self.idle_s,
            redis=Told(
                commands=round(left(self.redis.commands, other.redis.commands)),
                bytes=round(left(self.redis.bytes, other.redis.bytes)),
                used_memory=self.redis.used_memory,
                cpu_s=left(self.redis.cpu_s, other.redis.cpu_s),
            ),
            commits=left(self.commits, other.commits),
            wal_bytes=left(self.wal_bytes, other.wal_bytes),
            queries=left(self.queries, other.queries),
            payment_calls=left(self.payment_calls, other.payment_calls),
        )


@dataclass(frozen=True, slots=True)
class Reading:
    at_s: float
    cpu_s: Mapping[str, float]
    generator_s: float
    idle_s: float
    redis: Told
    written: tuple[int, int]
    queries: int
    payment_calls: float


class Meter:
    """``root``: all parts are below this process. ``read`` twice, then ``between``."""

    def __init__(self, root: int, redis_url: str, database_url: str, internal_url: str) -> None:
        self._parts = Parts(root)
        self._redis: Redis = Redis.from_url(redis_url)
        self._redis.set_response_callback("INFO", _as_it_came)
        self._database = psycopg2.connect(database_url)
        self._database.autocommit = True
        self._page = f"{internal_url}/metrics"
        self._own_bytes = 0

    def close(self) -> None:
        self._redis.close()
        self._database.close()

    def execute(self, statement: str, values: Mapping[str, Any] | None = None) -> list[Any]:
        with self._database.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def hear(self) -> None:
        """Of changes of jobs, from now on."""
        with self._database.cursor() as cursor:
            cursor.execute("LISTEN tollgate_jobs")
        self._database.notifies.clear()

    def heard(self) -> int:
        self._database.poll()
        return len(self._database.notifies)

    def read(self, *, handed_over: bool = False) -> Reading:
        """``handed_over``: the workers' own counts too, for which it waits first."""
        queries, attempts = self._counts() if handed_over else (0, 0.0)
        at_s, cpu_s, generator_s = time.monotonic(), dict(self._parts.look()), _own_cpu_s()
        idle_s = read_idle_s(_STAT.read_text())
        answer: Any = self._redis.info("stats", "memory", "cpu", "commandstats")
        told = read_info(answer.decode(), own_bytes=self._own_bytes)
        self._own_bytes += len(answer)
        commits, wal = self.execute(_WRITTEN)[0]
        return Reading(
            at_s, {**dict.fromkeys(PARTS, 0.0), **cpu_s}, generator_s, idle_s, told,
            (int(commits), int(wal)), queries, attempts,
        )  # fmt: skip

    def _counts(self) -> tuple[int, float]:
        time.sleep(HANDED_OVER_S)  # until the page has what was counted so far
        with urllib.request.urlopen(self._page, timeout=10) as answer:  # noqa: S310 (loopback)
            text = answer.read().decode()
        return read_page(text).queries, sum(map(float, _ATTEMPTS.findall(text)))


def between(first: Reading, last: Reading) -> Used:
    return Used(
        seconds=last.at_s - first.at_s,
        cpu_s={part: last.cpu_s[part] - first.cpu_s[part] for part in last.cpu_s},
        generator_s=last.generator_s - first.generator_s,
        idle_s=last.idle_s - first.idle_s,
        redis=Told(
            commands=last.redis.commands - first.redis.commands,
            bytes=last.redis.bytes - first.redis.bytes,
            used_memory=last.redis.used_memory,
            cpu_s=last.redis.cpu_s - first.redis.cpu_s,
        ),
        commits=last.written[0] - first.written[0],
        wal_bytes=last.written[1] - first.written[1],
        queries=last.queries - first.queries,
        payment_calls=last.payment_calls - first.payment_calls,
    )


def _as_it_came(response: Any, **_options: Any) -> Any:
    return response


def read_idle_s(stat: str) -> float:
    """Of /proc/stat: all cores together, waiting for a disk included."""
    _, _, _, _, idle, waiting, *_ = stat.split("\n", 1)[0].split()
    return (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")


def _own_cpu_s() -> float:
    both = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in both)
