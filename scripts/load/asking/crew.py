"""The generators of one run: started together, begun at one moment, heard until their outcome."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Sequence

from scripts.load.plan import READY, Outcome, Plan, Told
from scripts.running import ROOT

#: For interpreters to start, and connections to open.
_READY_TIMEOUT_S = 60.0
#: Between saying when and that moment.
NOTICE_S = 0.2
#: An outcome holds every admission of the run.
_LONGEST_LINE = 2**30
_STOP_TIMEOUT_S = 5.0


class GeneratorFailed(Exception):
    """A generator ended without an outcome; what it said is in the message."""


class Crew:
    """``await ready()``, then ``run``."""

    def __init__(self, members: Sequence[asyncio.subprocess.Process]) -> None:
        self._members = members

    async def ready(self) -> None:
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                lines = await asyncio.gather(*map(_line, self._members))
        except TimeoutError as error:
            raise GeneratorFailed(
                f"the generators had not opened their connections in {_READY_TIMEOUT_S:g} s"
            ) from error
        for line in lines:
            if json.loads(line)["kind"] != READY:
                raise GeneratorFailed(f"a generator began with {line[:200]!r}")

    async def run(self, began_s: float, hear: Callable[[int, Told], None]) -> list[Outcome]:
        """All begin at that moment, ``NOTICE_S`` from now; ``hear`` gets each one's seconds."""
        began = f"{began_s!r}\n".encode()
        for member in self._members:
            assert member.stdin is not None  # noqa: S101 (asked for where it was started)
            member.stdin.write(began)
        return list(
            await asyncio.gather(
                *(_heard(member, number, hear) for number, member in enumerate(self._members))
            )
        )


@contextlib.asynccontextmanager
async def crew(plans: Sequence[Plan]) -> AsyncIterator[Crew]:
    """A process for each plan; none is left when the block ends."""
    members: list[asyncio.subprocess.Process] = []
    try:
        for plan in plans:
            member = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "scripts.load.asking.generator"),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
            )
            members.append(member)
            assert member.stdin is not None  # noqa: S101 (asked for just above)
            member.stdin.write(plan.model_dump_json().encode() + b"\n")
        yield Crew(members)
    finally:
        for member in members:
            await _stop(member)


async def _heard(
    member: asyncio.subprocess.Process, number: int, hear: Callable[[int, Told], None]
) -> Outcome:
    while True:
        line = await _line(member)
        if line.startswith(b'{"kind":"outcome"'):
            return Outcome.model_validate_json(line)
        hear(number, Told.model_validate_json(line))


async def _line(member: asyncio.subprocess.Process) -> bytes:
    assert member.stdout is not None  # noqa: S101 (asked for where it was started)
    line = await member.stdout.readline()
    if not line:
        raise GeneratorFailed(f"a generator ended with code {await member.wait()} (see above)")
    return line


async def _stop(member: asyncio.subprocess.Process) -> None:
    """It ends when its input does; and for certain."""
    assert member.stdin is not None  # noqa: S101 (asked for where it was started)
    member.stdin.close()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await member.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            member.kill()
        await member.wait()
