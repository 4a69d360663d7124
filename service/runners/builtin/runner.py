"""Runs the built-in flows, in threads, so that no request of this worker waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from service.errors import RunnerUnavailable
from service.runners.builtin import csv_profile, tailored_letter, text_summary
from service.runners.models import Failed, RunOutcome, RunRequest

#: A pure function of the request: a job that is run twice gives the same bytes twice.
Builtin = Callable[[RunRequest], RunOutcome]

BUILTINS: Mapping[str, Builtin] = {
    "text-summary": text_summary.run,
    "csv-profile": csv_profile.run,
    "tailored-letter": tailored_letter.run,
}


class BuiltinRunner:
    """One built-in flow by its name."""

    def __init__(self, name: str, threads: ThreadPoolExecutor) -> None:
        self._name = name
        self._threads = threads

    def __repr__(self) -> str:
        return f"<BuiltinRunner {self._name}>"

    async def run(self, request: RunRequest) -> RunOutcome:
        """A cancelled run's thread goes on to its end, which the inputs' bounds keep near."""
        work = BUILTINS.get(self._name)
        if work is None:
            raise RunnerUnavailable(f"There is no built-in flow named {self._name}.")
        left_s = (request.deadline - datetime.now(UTC)).total_seconds()
        try:
            async with asyncio.timeout(max(0.0, min(left_s, request.flow.runner.timeout_s))):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, work, request)
        except TimeoutError:
            return Failed("run-too-late", "The flow did not finish in its time.", False)
