"""``tollgate serve``: gunicorn, embedded and driven by our settings alone.

Addresses are bound here, before any worker exists: a port in use is one clear line and the end,
not a loop. What the workers measure goes into files they share, in a directory of this start.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from service import shared_counts
from service.errors import ConfigurationError
from service.logs import configure_logging
from service.server.master import Master
from service.server.models import Applications, Factory
from service.server.sockets import bound
from service.server.worker import Worker
from service.settings import ServerSettings, Settings

EXIT_FAILED = 1
EXIT_MISCONFIGURED = 2
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
#: A worker whose loop has stood still for so long is aborted (with its stacks) and replaced.
HANG_TIMEOUT_S = 30
#: Room for clean-up after the requests and jobs in hand have had their time.
STOP_MARGIN_S = 10
#: Files a worker may have open: each client that waits for news is one, and 1,024 is a usual limit.
OPEN_FILES = 65_536
#: Of a worker, beside its waiting clients: other clients, connections of its own, logs.
OTHER_FILES = 500
#: Only a restart changes these: they are about sockets that are open already.
_KEPT_ON_RELOAD = ("host", "port", "internal_host", "internal_port", "role")

log = structlog.get_logger()


def serve(
    settings: Settings,
    *,
    reload: Callable[[], Settings] | None = None,
    factory: Factory | None = None,
    before_workers: Callable[[], None] = lambda: None,
) -> int:
    """Serve until told to stop; returns the exit code. ``reload`` reads the settings on SIGHUP.

    ``before_workers`` is called once the addresses are ours. Raises CannotListen if one of them is
    in use or not ours.
    """
    configure_logging(settings.logging)
    if "prometheus_client" in sys.modules:
        raise RuntimeError("prometheus_client is imported: workers could not share their metrics")
    _allow_open_files(settings.server.waiting_clients)
    master_pid = os.getpid()
    with ExitStack() as stack:
        listeners = _listen(settings.server, stack)
        before_workers()
        parent = os.environ.get(METRICS_VARIABLE)
        for abandoned in shared_counts.remove_abandoned(parent):
            log.info("abandoned_metrics_removed", directory=str(abandoned))
        metrics = shared_counts.Directory.make(parent)
        os.environ[METRICS_VARIABLE] = str(metrics.path)
        try:
            _Gunicorn(settings, reload or (lambda: settings), factory or _applications).run(
                listeners, metrics.path
            )
        except SystemExit as end:
            # Workers are forked below here and leave the same way; their codes are the master's.
            if os.getpid() != master_pid:
                raise
            return _exit_code(end.code)
        finally:
            if os.getpid() == master_pid:
                metrics.remove()
    return 0


class _Gunicorn(BaseApplication):  # type: ignore[misc]
    def __init__(self, settings: Settings, read: Callable[[], Settings], factory: Factory) -> None:
        self.settings = settings
        self._read = read
        self._factory = factory
        super().__init__(prog="tollgate")

    def load_config(self) -> None:
        server = self.settings.server
        for name, value in {
            "workers": server.workers,
            "worker_class": Worker,
            "logger_class": _GunicornLogger,
            "proc_name": "tollgate",
            "timeout": HANG_TIMEOUT_S,
            "graceful_timeout": round(
                server.drain_delay + 2 * server.shutdown_timeout + STOP_MARGIN_S
            ),
            "when_ready": Master.tell_serving,
            "child_exit": Master.worker_gone,
            # One path per user: several replicas on a machine would fight for it.
            "control_socket_disable": True,
        }.items():
            self.cfg.set(name, value)

    def load(self) -> Factory:
        return self._factory

    def read_settings(self) -> bool:
        """Read the settings again for new workers; False, and a line each, if they are wrong."""
        try:
            read = self._read()
        except ConfigurationError as error:
            log.error("settings_refused", faults=error.message.splitlines())
            return False
        except Exception as error:  # a bug of ours: the workers that serve must not pay for it
            log.exception("settings_refused", faults=[type(error).__name__])
            return False
        kept = {name: getattr(self.settings.server, name) for name in _KEPT_ON_RELOAD}
        self.settings = read.model_copy(update={"server": read.server.model_copy(update=kept)})
        log.info("settings_read_again", workers=self.settings.server.workers)
        return True

    def run(self, listeners: list[socket.socket], metrics: Path) -> None:
        Master(self, listeners, metrics).run()


class _GunicornLogger(Logger):  # type: ignore[misc]
    """gunicorn's own lines, in our format: no handlers of its own."""

    def setup(self, cfg: object) -> None:
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True


async def _applications(settings: Settings) -> Applications:
    # Imported in the worker only: prometheus_client must find the directory when it is imported,
    # and a master that holds little starts its workers quickly.
    from service import app  # noqa: PLC0415
    from service.api import keys  # noqa: PLC0415

    public = await app.create_app(settings)
    internal = await app.create_internal_app(settings, public)

    def drain() -> None:
        public[keys.DRAINING].draining = True

    def release() -> None:
        public[keys.DRAINING].leaving = True
        public[keys.STATUSES].release()

    return Applications(public, internal, drain, release)


def _allow_open_files(waiting_clients: int) -> None:
    """Raise the limit of open files, for us and our workers; a warning if it stays too low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # where the system has a bound of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    if soft != resource.RLIM_INFINITY and soft < waiting_clients + OTHER_FILES:
        log.warning("open_files_few", limit=soft, waiting_clients=waiting_clients)


def _listen(server: ServerSettings, stack: ExitStack) -> list[socket.socket]:
    """The sockets of all workers, the internal one last."""
    addresses = [("INTERNAL_PORT", server.internal_host, server.internal_port)]
    if server.role != "jobs":
        addresses.insert(0, ("PORT", server.host, server.port))
    return [stack.enter_context(bound(*address)) for address in addresses]


def _exit_code(code: object) -> int:
    if code == Master.APP_LOAD_ERROR:
        return EXIT_MISCONFIGURED
    return EXIT_FAILED if code else 0
