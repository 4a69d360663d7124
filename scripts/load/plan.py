"""What passes between ``make load`` and its generators: one line of JSON each.

In: a Plan, then (when all are ready) the moment to begin. Out: ``ready``, a Told each second, and
an Outcome. A generator ends when its input does.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from scripts.load.principals import By
from scripts.load.record import Kind
from scripts.load.scenario import Scenario

#: What a generator says once it has its connections.
READY = "ready"


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Counted(_Message):
    """A histogram on its way."""

    counts: dict[int, int]
    total_us: int
    max_us: int


class Plan(_Message):
    scenario: Scenario
    host: str
    port: int
    seconds: float
    seed: int
    #: Times the rates the scenario gives.
    factor: float
    number: int
    processes: int
    by: By
    payment_url: str | None
    network: str
    #: Bought before the run, as paths name them.
    jobs: list[str]


class GroupSecond(_Message):
    group: str
    due: int
    kinds: dict[Kind, int]
    latencies: Counted
    in_flight: int


class Told(_Message):
    kind: Literal["second"] = "second"
    at: int
    groups: list[GroupSecond]


class RouteOutcome(_Message):
    group: str
    route: str
    sent: int
    kinds: dict[Kind, int]
    statuses: dict[int, int]
    problems: dict[str, int]
    errors: dict[str, int]
    served: Counted
    refused: Counted


class Admitted(_Message):
    """What one principal got under the policies of one RateLimit-Policy field.

    ``sent`` and ``answered``: the two moments of each admission, doubles in base64.
    """

    group: str
    policies: str
    principal: str
    offered: int
    sent: str
    answered: str


#: What a purchaser complains of. form: an answer that can not be used; unpaid: by the wallet.
Finding = tuple[Literal["hash", "time", "result", "form", "unpaid"], str]


class Bought(_Message):
    """One purchase as its purchaser knows it; ``job`` is None where none was accepted."""

    group: str
    identifier: str | None
    free: bool
    job: str | None
    paid: bool
    status: str | None
    results: list[str]
    took_us: int | None
    findings: list[Finding]


class Outcome(_Message):
    kind: Literal["outcome"] = "outcome"
    cpu_s: float
    seconds: float
    late: Counted
    routes: list[RouteOutcome]
    admitted: list[Admitted]
    bought: list[Bought]
