"""The master process: gunicorn's arbiter, which starts, watches, replaces and stops the workers.

Any of SIGTERM, SIGINT and SIGQUIT asks for the same orderly stop; a second one, a moment later,
for a quick one. A worker that is to be replaced (new settings on SIGHUP, or so many requests) goes
on serving until its successor does, a few at a time; only leaving with the whole replica makes the
replica unready.
"""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import structlog
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from service import shared_counts
from service.server.worker import Worker, masked_signals

if TYPE_CHECKING:
    from service.server.launch import _Gunicorn

#: Ctrl-C reaches every process of the terminal, and a parent may pass it on: one wish, not two.
SAME_WISH_S = 1.0
#: After a successor that could not start; its predecessor goes on serving.
AGAIN_S = 5.0

log = structlog.get_logger()


class Master(Arbiter):  # type: ignore[misc]
    """Serves on ``listeners`` (the internal one last); ``metrics`` holds the workers' files."""

    def __init__(self, app: _Gunicorn, listeners: list[socket.socket], metrics: Path) -> None:
        super().__init__(app)
        self.LISTENERS = list(listeners)
        self._metrics = metrics
        self._stop_asked_s: float | None = None
        #: Workers up to this age are to be replaced.
        self._outdated_age = 0
        self._not_before_s = 0.0
        self._stopping = False

    def signal(self, sig: int, frame: FrameType | None) -> None:
        if sig in {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}:
            now_s = time.monotonic()
            if self._stop_asked_s is None:
                self._stop_asked_s = now_s
                sig = signal.SIGTERM
            elif now_s - self._stop_asked_s < SAME_WISH_S:
                return
            else:
                sig = signal.SIGQUIT
        super().signal(sig, frame)

    def handle_hup(self) -> None:
        if self.app.read_settings():
            self.app.reload()
            self.setup(self.app)
            self._outdated_age = self.worker_age

    def handle_usr2(self) -> None:
        log.warning("signal_ignored", signal="SIGUSR2", reason="start a second replica instead")

    def spawn_worker(self) -> Any:
        # A signal between the fork and the worker's own handlers would reach a copy of ours, and
        # be lost; so it waits until the worker lets signals in again (its ``_run``).
        with masked_signals():
            return super().spawn_worker()

    def manage_workers(self) -> None:
        """Have as many as are wanted; who is to be replaced leaves once the successor serves."""
        staying = [worker for worker in self.WORKERS.values() if not worker.standing.told]
        old = [w for w in staying if w.age <= self._outdated_age or w.standing.tired]
        # Of those to be replaced a quarter at a time: each worker has its own pool of connections.
        most = self.num_workers + (max(1, self.num_workers // 4) if old else 0)
        missing = min(self.num_workers - (len(staying) - len(old)), most - len(staying))
        if time.monotonic() >= self._not_before_s:
            for _ in range(missing):
                self.spawn_worker()
        serving = [worker for worker in staying if worker.standing.ready]
        serving.sort(key=lambda worker: (worker not in old, worker.age))
        for worker in serving[: max(0, len(serving) - self.num_workers)]:
            self.kill_worker(worker.pid, signal.SIGTERM)

    def reap_workers(self) -> None:
        while True:
            known = list(self.WORKERS.values())
            try:
                super().reap_workers()
            except HaltServer as halt:
                # gunicorn has let go of the worker that could not start, and skipped its clean-up.
                for worker in known:
                    if worker.pid not in self.WORKERS and not worker.standing.gone:
                        worker.tmp.close()
                        self.worker_gone(worker)
                if self._stopping:
                    continue
                # Of a first start that is all there is to do; of a later one the others know
                # nothing.
                if not any(worker.standing.ready for worker in self.WORKERS.values()):
                    raise
                log.error("worker_not_started", reason=halt.reason, again_in_s=AGAIN_S)
                self._not_before_s = time.monotonic() + AGAIN_S
            else:
                return

    def stop(self, graceful: bool = True) -> None:
        self._stopping = True  # a worker that could not start is no reason any more
        super().stop(graceful)

    def kill_worker(self, pid: int, sig: int) -> None:
        if sig == signal.SIGTERM and (worker := self.WORKERS.get(pid)):
            worker.standing.told = True
            if self._stop_asked_s is not None:
                worker.standing.leave_with_replica()
        super().kill_worker(pid, sig)

    def tell_serving(self) -> None:
        """Log, once, which addresses are served."""
        addresses = ["{}:{}".format(*listener.getsockname()[:2]) for listener in self.LISTENERS]
        server = self.app.settings.server
        log.info(
            "serving",
            public=addresses[0] if addresses[1:] else None,
            internal=addresses[-1],
            role=server.role,
            workers=server.workers,
            master=self.pid,
        )

    def worker_gone(self, worker: Worker) -> None:
        """Clean up after a worker, however it ended."""
        worker.standing.gone = True
        try:
            shared_counts.take_over(self._metrics, worker.pid)
        except Exception:  # its counts stay in its own files, and the others must be looked after
            log.exception("counts_not_taken_over", worker=worker.pid)
        if self._stop_asked_s is None:
            log.info("worker_gone", worker=worker.pid)
