"""How load is offered: wrk where it is installed, else a generator of our own, always a process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass

from scripts.running import ROOT

#: Beyond the time a load is to last, before its generator counts as hung.
MARGIN_S = 30.0
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class LoadFailed(Exception):
    """A generator did not do what it was asked."""


@dataclass(frozen=True, slots=True)
class Load:
    """What to offer: ``seconds`` long, on ``connections`` that are kept alive.

    ``requests`` ends it earlier; ``per_second`` is a fixed rate (else: as fast as answers come).
    With ``principals`` the requests name so many clients in X-Forwarded-For, one after the other,
    from number ``first_principal`` on.
    """

    url: str
    seconds: float
    connections: int = 64
    requests: int | None = None
    per_second: float | None = None
    principals: int = 0
    first_principal: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; ``refused`` are all answers that are not 2xx or 3xx."""

    requests: int
    refused: int
    seconds: float
    p50_ms: float
    p99_ms: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


class Generator(ABC):
    name: str

    @abstractmethod
    def offer(self, load: Load) -> Outcome: ...


class OwnGenerator(Generator):
    """``scripts.bench.generator`` in a process of its own: every kind of load."""

    def __init__(self, why: str) -> None:
        self.name = f"our own, scripts.bench.generator ({why})"

    def offer(self, load: Load) -> Outcome:
        command = [sys.executable, "-m", "scripts.bench.generator", json.dumps(asdict(load))]
        return Outcome(**json.loads(_output(command, load)))


class Wrk(Generator):
    """One thread of wrk, which needs the least CPU per request; offers plain loads only."""

    def __init__(self, program: str) -> None:
        self._program = program
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        self.name = " ".join((said.stdout + said.stderr).split()[:2])

    def offer(self, load: Load) -> Outcome:
        if load.requests is not None or load.per_second is not None or load.principals:
            raise LoadFailed("wrk can not count, keep a rate, or speak for several clients")
        # wrk knows whole seconds only.
        seconds = max(1, round(load.seconds))
        command = [
            *(self._program, "--threads", "1", "--connections", str(load.connections)),
            *("--duration", f"{seconds}s", "--latency", load.url),
        ]
        return read_wrk(_output(command, load))


def read_wrk(text: str) -> Outcome:
    """wrk's report; raises LoadFailed where sockets failed, because the figures are void then."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)\b", text)
    if not total or "Socket errors" in text:
        raise LoadFailed(f"wrk says:\n{text}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return Outcome(
        requests=int(total[1]),
        refused=int(refused[1]) if refused else 0,
        seconds=_ms(total[2], total[3]) / 1000,
        p50_ms=_percentile(text, 50),
        p99_ms=_percentile(text, 99),
    )


def fastest() -> Generator:
    """For plain loads."""
    if wrk := shutil.which("wrk"):
        return Wrk(wrk)
    return OwnGenerator("wrk is not installed; Debian has it as a package")


def _percentile(text: str, share: int) -> float:
    found = re.search(rf"^\s+{share}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.MULTILINE)
    if not found:
        raise LoadFailed(f"wrk gives no {share}th percentile:\n{text}")
    return _ms(found[1], found[2])


def _ms(number: str, unit: str) -> float:
    return float(number) * _UNITS_MS[unit]


def _output(command: list[str], load: Load) -> str:
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True,
            timeout=load.seconds + MARGIN_S,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise LoadFailed(f"{command[0]} failed:\n{error.stderr[-2000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise LoadFailed(f"{command[0]} did not end") from error
    return done.stdout
