"""A scenario as its file in ``config/load`` says it: who asks what, how often, of what fleet."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from scripts.load.schedule import Closed, Schedule, Share, mean_rate
from scripts.running import ROOT
from service.settings.limits import PolicyName, RateText, Tokens

FOLDER = ROOT / "config" / "load"
#: A file of the folder that is no scenario.
THRESHOLDS = "thresholds"
#: In a route's path: the id of one of the jobs that were bought before the run.
JOB = "{job}"


class ScenarioInvalid(Exception):
    """The message says which file, and what is wrong in it."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Route(_Part):
    """``name`` is what the report calls it: ``GET /flows/{flow}``."""

    name: str
    path: Annotated[str, Field(pattern=r"^/\S*$")]
    weight: Annotated[float, Field(gt=0)] = 1
    headers: dict[str, str] = {}


class Purchase(_Part):
    """Each arrival is a purchase: start_job, payment, status until the result, all checked."""

    flow: str = "text-summary"
    input_data: dict[str, Any]
    #: Paid in the sandbox, as its owner's wallet would; else the flow must be free.
    paid: bool = True
    #: Follow it to its result; else only start_job is asked, and how it is answered is noted.
    follow: bool = True
    #: From the payment to the result; then it counts as lost.
    patience_s: Annotated[float, Field(gt=0)] = 20


class Group(_Part):
    """Clients that behave alike."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    principals: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    #: At most, over all of its principals.
    connections: Annotated[int, Field(ge=1, le=20_000)]
    schedule: Schedule
    #: Parts of the run.
    begins: Share = 0
    ends: Share = 1
    routes: list[Route] = []
    purchase: Purchase | None = None
    timeout_s: Annotated[float, Field(gt=0)] = 10

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.routes) == bool(self.purchase):
            raise ValueError("a group has either routes or a purchase")
        if self.purchase and isinstance(self.schedule, Closed):
            raise ValueError("purchases need a schedule with a rate")
        if self.begins >= self.ends:
            raise ValueError("a group must begin before it ends")
        return self

    @property
    def rate(self) -> float | None:
        """Mean over its own part of the run; None: as fast as answers come."""
        return None if isinstance(self.schedule, Closed) else mean_rate(self.schedule)


class Fault(_Part):
    """What the payment service does wrong for a part of the run (scripts/sandbox/faults.py)."""

    begins: Share
    ends: Share
    route: str = "*"
    kind: Literal["latency", "hang", "reset", "status", "bad-json"]
    seconds: Annotated[float, Field(ge=0)] = 1.0
    status: Annotated[int, Field(ge=300, le=599)] = 500
    probability: Annotated[float, Field(gt=0, le=1)] = 1.0


class Limit(_Part):
    """What a fleet that is started for the scenario gets, and any fleet is measured against."""

    rate: RateText
    burst: Tokens | None = None

    def environment(self, policy: str) -> dict[str, str]:
        prefix = f"TOLLGATE_LIMITS__{policy.upper()}__"
        burst = {} if self.burst is None else {f"{prefix}BURST": str(self.burst)}
        return {f"{prefix}RATE": str(self.rate), **burst}


class Scenario(_Part):
    name: str
    title: str
    purpose: str
    duration_s: Annotated[float, Field(gt=0)]
    #: The fleet's settings that are not as config/tollgate.toml has them.
    environment: dict[Annotated[str, Field(pattern="^TOLLGATE_")], str] = {}
    limits: dict[PolicyName, Limit] = {}
    #: Free jobs bought before the run, for paths with ``{job}``.
    jobs: Annotated[int, Field(ge=0, le=1000)] = 0
    groups: Annotated[list[Group], Field(min_length=1)]
    faults: list[Fault] = []
    #: A generator of others to run after ours, where it is installed, to compare throughputs.
    reference: Literal["ab", "wrk"] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        names = [group.name for group in self.groups]
        if len(set(names)) < len(names):
            raise ValueError("two groups have the same name")
        if self.reference and not (len(self.groups) == 1 and len(self.groups[0].routes) == 1):
            raise ValueError("other generators can ask for one route only")
        if not self.jobs and any(JOB in r.path for g in self.groups for r in g.routes):
            raise ValueError(f"a path has {JOB}, but no jobs are bought before (jobs = ...)")
        return self

    @property
    def fleet_environment(self) -> dict[str, str]:
        made: dict[str, str] = {}
        for policy, limit in self.limits.items():
            made |= limit.environment(policy)
        return made | self.environment

    @property
    def buys(self) -> bool:
        """Whether somebody must pay."""
        return any(group.purchase and group.purchase.paid for group in self.groups)

    @property
    def rate(self) -> float | None:
        """Mean over the run of all groups that keep a rate."""
        rates = [g.rate * (g.ends - g.begins) for g in self.groups if g.rate is not None]
        return sum(rates) if rates else None


def names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.toml") if file.stem != THRESHOLDS)


def read(name: str) -> Scenario:
    """By its name, or by the path of a file elsewhere; raises ScenarioInvalid."""
    file = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if file.stem == THRESHOLDS or not file.is_file():
        raise ScenarioInvalid(f"there is no scenario {name}; there are: {', '.join(names())}")
    try:
        written = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ScenarioInvalid(f"{file}: {error}") from error
    return parse({"name": file.stem, **written}, str(file))


def parse(written: Mapping[str, Any], source: str) -> Scenario:
    """From what stands in ``source``; raises ScenarioInvalid."""
    try:
        return Scenario.model_validate(dict(written))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ScenarioInvalid(f"{source}: {place}: {first['msg']}") from error
