"""The words of the fleet: what one worker tells of itself, and the picture of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Upper bounds of latency buckets in seconds; one more bucket holds what took longer.
BOUNDS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Use:
    """Something of which there are so many; ``waiting``: who wants one and has none."""

    used: int = 0
    size: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Numbers:
    """What can be added up over workers; all but counts of the moment are per second.

    ``traffic``: answers by route class and class of status. ``seconds``: how long they took, by
    route class: one number for each of BOUNDS_S, and one for more. ``jobs``: unfinished ones of
    the whole fleet by state, as far as whoever tells has counted them.
    """

    traffic: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    seconds: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    decisions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    cache: Mapping[str, float] = field(default_factory=dict)
    payments: Mapping[str, float] = field(default_factory=dict)
    jobs: Mapping[str, int] = field(default_factory=dict)
    in_flight: int = 0
    waiting_clients: Use = Use()
    pool: Use = Use()
    bulkhead: Use = Use()
    runs: Use = Use()


@dataclass(frozen=True, slots=True)
class Denied:
    """Somebody who is refused again and again; ``hash`` is all that is told of who it is.

    ``kind``: address, network (IPv6), key, unknown-key or other.
    """

    kind: str
    hash: str
    per_minute: float


@dataclass(frozen=True, slots=True)
class Identity:
    """Which worker this is: the replica is its machine and public address."""

    worker: str
    replica: str
    pid: int
    version: str
    role: str
    started_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """What one worker tells; the rates are over its last ``window_s``."""

    identity: Identity
    numbers: Numbers
    window_s: float = 0.0
    #: Since its start.
    requests: int = 0
    denied: tuple[Denied, ...] = ()
    limiter: str = "fleet"
    modes: tuple[str, ...] = ()
    #: How much later than asked its event loop came back, at worst in the window.
    lag_ms: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A report, and how old it is."""

    report: Report
    age_s: float


@dataclass(frozen=True, slots=True)
class Picture:
    """All live workers; ``whole`` is False where Redis is away and this is one worker's own view.

    ``unreadable``: reports of another version of Tollgate that this one cannot read.
    """

    workers: tuple[Seen, ...]
    numbers: Numbers
    denied: tuple[Denied, ...]
    #: Degraded modes, and in how many workers.
    modes: Mapping[str, int]
    whole: bool
    unreadable: int = 0

    @property
    def lag_ms(self) -> float:
        return max((seen.report.lag_ms for seen in self.workers), default=0.0)


@dataclass(frozen=True, slots=True)
class Sample:
    """The fleet's numbers of one moment of the past."""

    at_s: float
    workers: int
    lag_ms: float
    numbers: Numbers
