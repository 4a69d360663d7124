"""What a run is given and what may come of it; what a flow says about its runner."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol
from uuid import UUID

from service.mip.schema import InputSchema


@dataclass(frozen=True, slots=True)
class RunnerSpec:
    """Where a flow runs; docs/runners.md explains each field."""

    kind: Literal["builtin", "http"]
    #: Name of the built-in, or the URL runs are posted to.
    target: str
    #: One stretch of work, from a start or an answer to the next outcome.
    timeout_s: float = 600.0
    #: One HTTP exchange.
    request_timeout_s: float = 30.0
    #: Between two questions for progress, where the runner names no time itself.
    poll_s: float = 2.0
    #: Environment variable that holds the bearer token.
    secret_env: str | None = None


class RunnableFlow(Protocol):
    """The part of a flow that its runner needs."""

    @property
    def slug(self) -> str: ...

    @property
    def runner(self) -> RunnerSpec: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What the purchaser gave when the runner asked."""

    request_id: str
    inputs: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """One job for a runner; the same job may come again, and is then the same run."""

    job_id: UUID
    flow: RunnableFlow
    variant: str
    #: Checked and normalised by the flow's schema.
    inputs: dict[str, Any] = field(repr=False)
    #: All answers so far, in the order they were asked for.
    answers: tuple[Answer, ...]
    #: UTC; a result after it is of no use.
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Done:
    result: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failed:
    """``message`` is shown to the purchaser; ``retryable`` says a later try may succeed."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class NeedsInput:
    """A question to the purchaser; the same question has the same ``request_id`` on every run."""

    request_id: str
    schema: InputSchema
    expires_at: datetime | None = None


RunOutcome = Done | Failed | NeedsInput


class Runner(Protocol):
    async def run(self, request: RunRequest) -> RunOutcome:
        """Work until there is an outcome; may be cancelled and called again for the same job.

        Raises RunnerUnavailable for trouble that will pass.
        """
