"""The worker as a process: which version, since when, what of the machine it uses, how it fares.

Each worker counts its own start and, when it leaves in order, its stop: starts without a stop and
without a worker are deaths. ``prometheus_client`` has collectors for processes, but none of them
works where several share a directory.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.metrics.plain import HandOver

#: Counting open files takes a millisecond where there are thousands.
LOOK_INTERVAL_S = 10.0
#: A loop that turns is late by a millisecond or two.
DELAY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_OWN_FILES = Path("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
_OWN_MEMORY = Path("/proc/self/statm")


class WorkerCounts:
    """``started`` once it serves, ``stopped`` at its orderly end; the rest comes by itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._build = Gauge(
            "tollgate_build_info",
            "Always 1; the version of Tollgate and of Python that the workers run.",
            ("version", "python"),
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._configured = self._gauge(
            "workers_configured", "Workers this replica is to have (server.workers).", "livemax"
        )
        self._workers = self._gauge("workers", "Workers of this replica that live.", "livesum")
        self._since = self._gauge(
            "start_time_seconds",
            "When the oldest living worker of this replica started, in seconds since 1970.",
            "livemin",
        )
        self._open_files = self._gauge(
            "worker_open_files", "Open files and connections of the worker with most.", "livemax"
        )
        self._file_limit = self._gauge(
            "worker_open_files_limit", "So many files a worker may have open.", "livemin"
        )
        self._memory = self._gauge(
            "worker_resident_memory_bytes",
            "Resident memory of the workers in bytes, all of the replica together.",
            "livesum",
        )
        self._cpu = Counter(
            "tollgate_worker_cpu_seconds",
            "Processor time of the workers, user and system, in seconds.",
            registry=registry,
        )
        self._delay = Histogram(
            "tollgate_worker_loop_delay_seconds",
            "How late a timer of a worker's event loop fires, looked at once a second, in seconds:"
            " what every request waits for at least.",
            buckets=DELAY_BUCKETS_S,
            registry=registry,
        )
        self._starts = Counter(
            "tollgate_worker_starts",
            "Workers that started, replacements included.",
            registry=registry,
        )
        self._stops = Counter(
            "tollgate_worker_stops",
            "Workers that ended in order. Those that started, did not stop and do not live died.",
            registry=registry,
        )
        self._cpu_s = 0.0
        self._next_look_s = 0.0
        HandOver.of(registry).add(self._look)

    def started(self, *, version: str, workers: int) -> None:
        """This worker serves, as one of so many."""
        self._build.labels(version, ".".join(map(str, sys.version_info[:3]))).set(1)
        self._configured.set(workers)
        self._workers.set(1)
        self._since.set(time.time())
        self._starts.inc()

    def stopped(self) -> None:
        """This worker ends because it was told to.

        From now on it is none that lives: starts less stops less living ones are the dead.
        """
        self._stops.inc()
        self._workers.set(0)

    def late(self, seconds: float) -> None:
        """A timer fired so much later than it should have."""
        self._delay.observe(max(0.0, seconds))

    def _look(self) -> None:
        cpu_s = time.process_time()
        self._cpu.inc(cpu_s - self._cpu_s)
        self._cpu_s = cpu_s
        now_s = time.monotonic()
        if now_s < self._next_look_s:
            return
        self._next_look_s = now_s + LOOK_INTERVAL_S
        self._open_files.set(sum(1 for _ in _OWN_FILES.iterdir()))
        self._file_limit.set(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        if _OWN_MEMORY.exists():
            pages = int(_OWN_MEMORY.read_text().split()[1])
            self._memory.set(pages * resource.getpagesize())

    def _gauge(self, name: str, text: str, across_workers: str) -> Gauge:
        return Gauge(
            f"tollgate_{name}",
            text,
            registry=self._registry,
            multiprocess_mode=across_workers,  # type: ignore[arg-type]
        )
