"""The runner for each flow; owns the HTTP session and the threads they share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import structlog
from prometheus_client import CollectorRegistry

from service.errors import RunnerUnavailable
from service.metrics.outbound import OutboundCounts
from service.runners.builtin.runner import BuiltinRunner
from service.runners.http import HttpRunner
from service.runners.models import RunnableFlow, Runner

log = structlog.get_logger()

#: Connections to runners from one worker, all flows together, and to a single one.
_CONNECTIONS = 100
_CONNECTIONS_PER_HOST = 50
#: Built-in work is bounded and quick; more threads would only take time from the loop.
_THREADS = 2


class Runners:
    """``open`` before the first run, ``close`` after the last."""

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        counts: OutboundCounts | None = None,
    ) -> None:
        self._counts = counts or OutboundCounts(CollectorRegistry())
        self._environment = os.environ if environment is None else environment
        self._session: aiohttp.ClientSession | None = None
        self._threads: ThreadPoolExecutor | None = None

    async def open(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="builtin-runner")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS, limit_per_host=_CONNECTIONS_PER_HOST
            ),
            # Runners are told apart by their token; what one sets must not reach another.
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """May be called twice; work still in a thread ends by itself, unseen."""
        session, threads = self._session, self._threads
        self._session = self._threads = None
        if session:
            await session.close()
        if threads:
            threads.shutdown(wait=False, cancel_futures=True)

    def for_flow(self, flow: RunnableFlow) -> Runner:
        """Raises RunnerUnavailable for a flow whose runner is not set up here."""
        if self._session is None or self._threads is None:
            raise RunnerUnavailable("The runners are not open.")
        spec = flow.runner
        if spec.kind == "builtin":
            return BuiltinRunner(spec.target, self._threads)
        token = None
        if spec.secret_env is not None:
            token = self._environment.get(spec.secret_env, "").strip()
            if not (token and token.isascii() and token.isprintable()):
                # The job waits for it in silence otherwise: nobody is called who could complain.
                log.error("runner_token_missing", variable=spec.secret_env)
                raise RunnerUnavailable(f"The variable {spec.secret_env} holds no usable token.")
        return HttpRunner(self._session, spec, token=token, counts=self._counts)
