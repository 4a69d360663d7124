"""The master process: gunicorn's arbiter, which starts, watches, replaces and stops the workers.

Any of SIGTERM, SIGINT and SIGQUIT asks for the same orderly stop; a second one, a moment later,
for a quick one. A worker that is replaced (SIGHUP, fewer workers) is told so by another signal
than one that leaves with the whole replica: only the latter makes the replica unready.
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

from service import shared_counts
from service.server.worker import Worker, masked_signals

if TYPE_CHECKING:
    from service.server.launch import _Gunicorn

#: Ctrl-C reaches every process of the terminal, and a parent may pass it on: one wish, not two.
SAME_WISH_S = 1.0

log = structlog.get_logger()


class Master(Arbiter):  # type: ignore[misc]
    """Serves on ``listeners`` (the internal one last); ``metrics`` holds the workers' files."""

    def __init__(self, app: _Gunicorn, listeners: list[socket.socket], metrics: Path) -> None:
        super().__init__(app)
        self.LISTENERS = list(listeners)
        self._metrics = metrics
        self._stop_asked_s: float | None = None

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
            super().handle_hup()

    def handle_usr2(self) -> None:
        log.warning("signal_ignored", signal="SIGUSR2", reason="start a second replica instead")

    def spawn_worker(self) -> Any:
        # A signal between the fork and the worker's own handlers would reach a copy of ours, and
        # be lost; so it waits until the worker lets signals in again.
        with masked_signals():
            return super().spawn_worker()

    def kill_worker(self, pid: int, sig: int) -> None:
        if sig == signal.SIGTERM and self._stop_asked_s is None:
            sig = Worker.RETIRE
        super().kill_worker(pid, sig)

    def tell_serving(self) -> None:
        """Say once where everything is."""
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
        try:
            shared_counts.take_over(self._metrics, worker.pid)
        except Exception:  # its counts stay in its own files, and the others must be looked after
            log.exception("counts_not_taken_over", worker=worker.pid)
        if self._stop_asked_s is None:
            log.info("worker_gone", worker=worker.pid)
