"""What operators look at and act on, gathered from the parts that know it (docs/ops-page.md).

The actions are the very calls that the commands make: ``tollgate breaker`` and ``tollgate limits``.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import structlog

import service
from service.admission.published import Change
from service.admission.trial import put_on_trial
from service.api import ops_views, principals
from service.api.ops_rendering import (
    breaker_view,
    changes_view,
    job_line,
    job_view,
    numbers_view,
    policies_view,
    sample_view,
    worker_view,
)
from service.errors import (
    ConfigurationError,
    DeadlineExceeded,
    DependencyError,
    FieldError,
    InvalidInput,
    StoreUnavailable,
    UnknownJob,
)
from service.jobs.inspection import Inspection, census
from service.jobs.models import JobState

if TYPE_CHECKING:
    from service.admission.limiter import Limiter
    from service.admission.published import PublishedLimits
    from service.admission.rules import Rules
    from service.breaker.breaker import Breaker
    from service.breaker.models import Event
    from service.database import Database
    from service.fleet.fleet import Fleet
    from service.jobs.repository import JobRepository
    from service.settings import Settings

log = structlog.get_logger()

#: Shown of the breaker's history, and of what was done by hand.
EVENTS = 60
CHANGES = 30
#: However many look, the parts are asked once in this time; the database less often.
NOW_LIFE_S = 0.9
JOBS_LIFE_S = 4.0
MOST_LINES = 50


@dataclass(frozen=True, slots=True)
class Parts:
    """What the desk is made of."""

    settings: Settings
    fleet: Fleet
    breaker: Breaker
    limiter: Limiter
    rules: Rules
    published: PublishedLimits
    database: Database
    repository: JobRepository


class Desk:
    """Reading never fails for what is away: it is left out, and said to be."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._inspection = Inspection(parts.database)
        self._now: asyncio.Task[ops_views.NowView] | None = None
        self._now_until_s = 0.0
        self._jobs: tuple[ops_views.JobsView | None, str | None] = (None, "not-asked-yet")
        self._jobs_until_s = 0.0

    async def now(self) -> ops_views.NowView:
        """Everything at a glance; asked by many at once, it is gathered once."""
        at_s = time.monotonic()
        if self._now is None or (self._now.done() and at_s >= self._now_until_s):
            self._now_until_s = at_s + NOW_LIFE_S
            self._now = asyncio.create_task(self._gather(), name="ops-now")
        return await asyncio.shield(self._now)

    async def past(self) -> ops_views.PastView:
        samples = await self._parts.fleet.past()
        return ops_views.PastView(samples=[sample_view(sample) for sample in samples])

    async def jobs(self, state: str | None) -> ops_views.JobListView:
        """The oldest of a state, or of all that are not through. Raises as the database does."""
        try:
            states = [JobState(state)] if state else None
        except ValueError as error:
            raise InvalidInput(message="There is no such state of jobs.") from error
        found = await self._inspection.oldest(states, most=MOST_LINES)
        return ops_views.JobListView(jobs=[job_line(job) for job in found])

    async def job(self, text: str) -> ops_views.JobView:
        """One job with its history; raises UnknownJob, and as the database does."""
        try:
            job_id = UUID(text)
        except ValueError as error:
            raise UnknownJob("That is not the id of a job.") from error
        repository = self._parts.repository
        dossier = await self._inspection.dossier(job_id)
        job = await repository.get(job_id)
        if dossier is None or job is None:
            raise UnknownJob(f"There is no job {job_id}.")
        return job_view(dossier, job, await repository.events(job_id))

    async def principal(self, text: str) -> ops_views.PrincipalView:
        """What is left in its buckets. Raises InvalidInput and StoreUnavailable."""
        parts, rulebook = self._parts, self._parts.rules.current
        found = _checked(text, rulebook)
        decision = await principals.peek(parts.limiter, found, rulebook)
        kind, hashed = parts.fleet.pseudonym(found.text)
        return ops_views.PrincipalView(
            principal=found.text,
            kind=kind,
            hash=hashed,
            buckets=[
                ops_views.BucketView(
                    policy=state.policy.name,
                    left=state.remaining,
                    burst=state.policy.burst,
                    full_in_ms=state.refill_ms,
                    shadow=state.policy.shadow,
                )
                for state in decision.states
            ],
        )

    async def force(self, order: ops_views.ForceOrder, author: str) -> str:
        await self._parts.breaker.force(order.state, order.seconds, by=author, reason=order.reason)
        _told("breaker_forced", order, author, state=order.state, seconds=order.seconds)
        return f"The breaker is held {order.state} for {order.seconds:g} s."

    async def reset_breaker(self, order: ops_views.ResetOrder, author: str) -> str:
        await self._parts.breaker.reset(by=author, reason=order.reason)
        _told("breaker_reset", order, author)
        return "The breaker is closed, and nothing is counted."

    async def reset_principal(self, order: ops_views.BucketsOrder, author: str) -> str:
        parts, rulebook = self._parts, self._parts.rules.current
        found = _checked(order.principal, rulebook)
        try:
            done = await principals.reset(
                parts.limiter,
                parts.published,
                found,
                order.policy,
                rulebook=rulebook,
                author=author,
                reason=order.reason,
            )
        except ConfigurationError as error:
            fault = FieldError("/policy", f"{error.message}.")
            raise InvalidInput((fault,), "No such policy counts that client.") from error
        _told("buckets_reset", order, author, principal=found.text, policy=order.policy)
        filled = [name for name, was_short in done if was_short]
        return f"Filled: {', '.join(filled)}." if filled else "Every bucket was full already."

    async def shadow(self, order: ops_views.ShadowOrder, author: str) -> str:
        settings = self._parts.settings
        try:
            await put_on_trial(
                self._parts.published,
                settings.limits,
                order.policy,
                order.shadow,
                key_secret=settings.admin.key_secret,
                author=author,
                reason=order.reason,
            )
        except ConfigurationError as error:
            raise InvalidInput(message=f"{error.message}.") from error
        _told("policy_shadowed", order, author, policy=order.policy, shadow=order.shadow)
        word = "on trial: it counts and refuses nothing" if order.shadow else "enforced"
        return f"{order.policy} is {word}, in every worker within a second."

    async def _gather(self) -> ops_views.NowView:
        parts = self._parts
        picture, seen, (jobs, jobs_away) = await asyncio.gather(
            parts.fleet.picture(), parts.breaker.snapshot(), self._counted_jobs()
        )
        events, changes = await self._histories()
        rulebook = parts.rules.current
        return ops_views.NowView(
            whole=picture.whole,
            unreadable=picture.unreadable,
            version=service.__version__,
            numbers=numbers_view(
                picture.numbers,
                at_ms=round(time.time() * 1000),
                workers=len(picture.workers),
                lag_ms=picture.lag_ms,
            ),
            modes=dict(picture.modes),
            denied=[ops_views.DeniedView.model_validate(one) for one in picture.denied],
            workers=[worker_view(one) for one in picture.workers],
            breaker=breaker_view(seen, events, parts.settings.breaker.failure_threshold),
            limits_version=rulebook.version,
            policies=policies_view(rulebook),
            changes=changes_view(events, changes)[:CHANGES],
            jobs=jobs,
            jobs_away=jobs_away,
        )

    async def _histories(self) -> tuple[tuple[Event, ...], list[Change]]:
        try:
            return (
                await self._parts.breaker.history(EVENTS),
                await self._parts.published.changes(CHANGES),
            )
        except (StoreUnavailable, DeadlineExceeded):
            return (), []

    async def _counted_jobs(self) -> tuple[ops_views.JobsView | None, str | None]:
        """All unfinished ones; what was found a moment ago will do."""
        if time.monotonic() >= self._jobs_until_s:
            try:
                seen = await census(self._parts.database, self._parts.repository)
                self._jobs = ops_views.JobsView.model_validate(
                    {"open": seen.open, "settlement": seen.settlement,
                     "late_paid": seen.late_paid, "lost": seen.lost}
                ), None  # fmt: skip
            except (DependencyError, DeadlineExceeded) as error:
                self._jobs = None, error.code
            self._jobs_until_s = time.monotonic() + JOBS_LIFE_S
        return self._jobs


def _checked(text: str, rulebook: Any) -> principals.Principal:
    try:
        return principals.principal_from(text.strip(), rulebook)
    except ConfigurationError as error:
        # The fault is told to whoever asked; the message also to the log, which must not learn an
        # address, nor a key's secret that was taken for its name.
        fault = FieldError("/principal", f"{error.message}.")
        raise InvalidInput((fault,), "That names nobody who is counted here.") from error


def _told(what: str, order: ops_views.Order, author: str, **more: Any) -> None:
    """The audit: who, what and why, in the log as well as in Redis."""
    log.warning("operator_action", action=what, author=author, reason=order.reason, **more)
