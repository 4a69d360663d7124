"""Where the fleet's workers tell of themselves: three small keys in Redis, each of them bounded.

Everything here raises StoreUnavailable where Redis is away, and has no memory of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.fleet import codec
from service.fleet.models import Report, Sample, Seen
from service.store import keys
from service.store.client import Store

#: One more is not shown; with all their reports at their longest, 16 MB.
MOST_WORKERS = 1000
#: The past that a freshly opened page has: 10 minutes, about 250 KB, at the very most 2 MB.
SAMPLE_INTERVAL_S = 5.0
MOST_SAMPLES = 120

_LIFE_MS = keys.REPORT_LIFE_MS


@dataclass(frozen=True, slots=True)
class Found:
    """What was on the board; ``unreadable``: reports of another version."""

    seen: tuple[Seen, ...]
    unreadable: int


class Board:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._report = store.script(__package__, "report", keys=4)
        self._collect = store.script(__package__, "collect", keys=2)
        self._sample = store.script(__package__, "sample", keys=1)

    async def tell(self, report: Report, *, salt: str) -> tuple[bool, bytes]:
        """Is a sample of the fleet due? And the salt that the whole fleet uses."""
        due, held = await self._tell(report.identity.worker, codec.report_bytes(report), salt)
        return bool(due), held

    async def leave(self, worker: str) -> None:
        await self._tell(worker, b"", "-")

    async def read(self) -> Found:
        """All live workers."""
        told: list[Any] = await self._collect([keys.fleet_workers(), keys.fleet_reports()],
                                              [_LIFE_MS])  # fmt: skip
        reports = [codec.report_from(raw) for raw in told[::2]]
        seen = tuple(
            Seen(report, age_ms / 1000)
            for report, age_ms in zip(reports, told[1::2], strict=True)
            if report is not None
        )
        return Found(seen, len(reports) - len(seen))

    async def keep(self, sample: Sample) -> bool:
        """False where another worker was quicker."""
        kept = await self._sample(
            [keys.fleet_samples()],
            [
                codec.sample_bytes(sample), round(SAMPLE_INTERVAL_S * 1000), MOST_SAMPLES,
                keys.SAMPLES_LIFE_MS,
            ],
        )  # fmt: skip
        return bool(kept)

    async def samples(self) -> tuple[Sample, ...]:
        """The recent past, oldest first."""
        entries: Any = await self._store.run(
            lambda: self._store.client.xrange(keys.fleet_samples())
        )
        read = (
            codec.sample_from(fields[b"sample"], int(entry.partition(b"-")[0]) / 1000)
            for entry, fields in entries
        )
        return tuple(sample for sample in read if sample is not None)

    async def _tell(self, worker: str, report: bytes, salt: str) -> Any:
        return await self._report(
            [
                keys.fleet_workers(), keys.fleet_reports(), keys.fleet_samples(),
                keys.fleet_salt(),
            ],
            [
                worker, report, _LIFE_MS, round(SAMPLE_INTERVAL_S * 1000), MOST_WORKERS, salt,
                keys.FLEET_SALT_LIFE_MS,
            ],
        )  # fmt: skip
