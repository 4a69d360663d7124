"""One run: the target prepared, generators and observers at work, and the record of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from scripts.load import sandbox, stock
from scripts.load.asking.alarm import now_s
from scripts.load.asking.crew import NOTICE_S, Crew, crew
from scripts.load.fleet import Target
from scripts.load.judging import books, bounds, results
from scripts.load.machine import machine
from scripts.load.plan import Outcome, Plan
from scripts.load.principals import By
from scripts.load.progress import Progress
from scripts.load.record import Event, Fleet, GeneratorState, Record, Sample
from scripts.load.reference import Measured, measure, together
from scripts.load.scenario import Scenario
from scripts.load.schedule import Closed
from scripts.load.watching.observe import Observation, Observer

_Timed = TypeVar("_Timed", Sample, Event)


@dataclass(frozen=True, slots=True)
class Options:
    """How a scenario is run; ``factor`` times its rates."""

    seconds: float
    factor: float
    seed: int
    processes: int
    by: By
    #: Beyond it the generator says that it is the bottleneck.
    most_late_ms: float
    command: str


async def run(scenario: Scenario, target: Target, options: Options) -> Record:
    """Everything but the verdicts."""
    before = await _reference(scenario, target, options)
    jobs: list[str] = []
    if scenario.jobs:
        jobs = await asyncio.to_thread(stock.stocked, target, options.by, scenario.jobs)
    async with (
        sandbox.prepared(scenario, target.service) as wallet,
        crew(_plans(scenario, target, options, jobs)) as generators,
    ):
        await generators.ready()
        measured = await asked(scenario, target, options, generators, wallet)
        bought = [one for outcome in measured.outcomes for one in outcome.bought]
        patience_s = max((g.purchase.patience_s for g in scenario.groups if g.purchase), default=0)
        ledger = books.opened(target.service)
        sales = await books.sales(bought, ledger, patience_s=patience_s)
    made = _record(scenario, target, options, measured)
    after = await _reference(scenario, target, options)
    ours = sum(sum(one.kinds.values()) for one in made.requests) / made.seconds
    references = [together(before, after, ours_per_second=ours)] if before and after else []
    return made.model_copy(update={"sales": sales, "references": references})


async def _reference(scenario: Scenario, target: Target, options: Options) -> Measured | None:
    """Half of it, each time."""
    return await asyncio.to_thread(measure, scenario, target.url, seconds=options.seconds / 2)


@dataclass(frozen=True, slots=True)
class _Measured:
    began: datetime
    outcomes: list[Outcome]
    progress: Progress
    observation: Observation
    events: list[Event]


async def asked(
    scenario: Scenario,
    target: Target,
    options: Options,
    generators: Crew,
    wallet: sandbox.Sandbox | None,
) -> _Measured:
    progress = Progress(options.processes, options.seconds)
    observer = Observer(target.observed)
    await observer.start()
    try:
        observed_s = now_s()
        began_s = observed_s + NOTICE_S
        began = datetime.now(UTC)
        async with asyncio.TaskGroup() as group:
            faults = group.create_task(sandbox.order(scenario, wallet, began_s, options.seconds))
            running = group.create_task(generators.run(began_s, progress.hear))
    except ExceptionGroup as errors:  # of two tasks; the first is what went wrong
        raise errors.exceptions[0] from errors
    finally:
        observation = await observer.stop()
    seen = _since(observation, began_s - observed_s)
    return _Measured(began, running.result(), progress, seen, faults.result())


def _since(observation: Observation, later_s: float) -> Observation:
    """Its times, counted from the beginning of the run."""
    return replace(
        observation,
        samples=[_moved(sample, later_s) for sample in observation.samples],
        events=[_moved(event, later_s) for event in observation.events],
    )


def _moved(one: _Timed, later_s: float) -> _Timed:
    return one.model_copy(update={"at": max(0.0, one.at - later_s)})


def _plans(scenario: Scenario, target: Target, options: Options, jobs: list[str]) -> list[Plan]:
    service = target.service
    return [
        Plan(
            scenario=scenario,
            host=target.host,
            port=target.port,
            seconds=options.seconds,
            seed=options.seed,
            factor=options.factor,
            number=number,
            processes=options.processes,
            by=options.by,
            payment_url=service.payment_url if service else None,
            network=service.payment_network if service else "Preprod",
            jobs=jobs,
        )
        for number in range(options.processes)
    ]


def _record(scenario: Scenario, target: Target, options: Options, measured: _Measured) -> Record:
    outcomes = measured.outcomes
    seconds = max(outcome.seconds for outcome in outcomes)
    if not all(isinstance(group.schedule, Closed) for group in scenario.groups):
        # The last request of a schedule is due before its end.
        seconds = options.seconds
    requests = results.requests(outcomes)
    state = results.generator_state(outcomes, options.most_late_ms)
    known = bounds.of_settings(target.settings.limits) if target.settings else {}
    admitted = [one for outcome in outcomes for one in outcome.admitted]
    answered = sum(sum(one.kinds.values()) - sum(one.errors.values()) for one in requests)
    observation = measured.observation
    events = [*observation.events, *measured.events, *_of_generator(state, seconds)]
    return Record(
        scenario=scenario.name,
        title=scenario.title,
        purpose=scenario.purpose,
        command=options.command,
        target=target.url,
        began=measured.began,
        seconds=seconds,
        seed=options.seed,
        machine=machine(),
        fleet=_fleet(target),
        offered=results.offered(scenario, options.factor),
        generator=state,
        requests=requests,
        seconds_of=measured.progress.seconds(),
        admissions=bounds.found(
            admitted, {**known, **bounds.of_scenario(scenario, known)}, seconds=seconds
        ),
        sales=None,
        samples=observation.samples,
        costs=observation.costs(answered) if observation.samples else None,
        events=sorted(events, key=lambda event: event.at),
        verdicts=[],
    )


def _fleet(target: Target) -> Fleet | None:
    if target.size is None:
        return None
    return Fleet(
        replicas=target.size.replicas,
        workers=target.size.workers,
        environment=dict(target.environment or {}),
    )


def _of_generator(state: GeneratorState, seconds: float) -> list[Event]:
    return [Event(at=seconds, kind="generator", text=state.says)] if state.bottleneck else []
