"""The outcomes of all generators as the parts of a record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scripts.load.asking.histogram import Histogram
from scripts.load.asking.tally import histogram_of
from scripts.load.plan import Outcome, RouteOutcome
from scripts.load.record import GeneratorState, Offered, Requests
from scripts.load.scenario import Scenario

#: Of one core. Beyond it a process has no room for the moments when much comes at once.
MOST_CPU_SHARE = 0.85
#: Of requests that could have gone out at once: what is measured then is our own delay.
MOST_LATE_MS = 10.0


def requests(outcomes: Sequence[Outcome]) -> list[Requests]:
    by_route: dict[tuple[str, str], list[RouteOutcome]] = {}
    for outcome in outcomes:
        for route in outcome.routes:
            by_route.setdefault((route.group, route.route), []).append(route)
    made = [_requests(group, name, parts) for (group, name), parts in by_route.items()]
    return [one for one in made if one.sent]


def _requests(group: str, route: str, parts: Sequence[RouteOutcome]) -> Requests:
    served, refused = Histogram(), Histogram()
    for part in parts:
        served.add(histogram_of(part.served))
        refused.add(histogram_of(part.refused))
    return Requests(
        group=group,
        route=route,
        sent=sum(part.sent for part in parts),
        kinds=dict(sum((Counter(part.kinds) for part in parts), Counter())),
        statuses=dict(sum((Counter(part.statuses) for part in parts), Counter())),
        problems=dict(sum((Counter(part.problems) for part in parts), Counter())),
        errors=dict(sum((Counter(part.errors) for part in parts), Counter())),
        latency=served.latency(),
        refusal_latency=refused.latency(),
    )


def generator_state(outcomes: Sequence[Outcome], most_late_ms: float) -> GeneratorState:
    shares = [min(1.0, one.cpu_s / one.seconds) if one.seconds else 0.0 for one in outcomes]
    late = Histogram()
    for outcome in outcomes:
        late.add(histogram_of(outcome.late))
    late_p99_ms = late.percentile_us(0.99) / 1000
    busy, slow = max(shares) > MOST_CPU_SHARE, late_p99_ms > most_late_ms
    figures = (
        f"{max(shares):.0%} of a core in its busiest process, requests sent {late_p99_ms:.1f} ms"
        " late at the 99th percentile"
    )
    if busy or slow:
        says = (
            f"The generator is the bottleneck: {figures}. The figures are its own as much as the"
            " fleet's; give it more processes, cores that the fleet does not use, or less to do."
        )
    else:
        says = f"The generator kept up: {figures}."
    return GeneratorState(
        processes=len(outcomes),
        cpu_share=shares,
        late_p99_ms=late_p99_ms,
        bottleneck=busy or slow,
        says=says,
    )


def offered(scenario: Scenario, factor: float) -> Offered:
    schedules = [f"{g.name}: {g.schedule.words(factor)}" for g in scenario.groups]
    rate = scenario.rate
    only = scenario.groups[0].schedule.words(factor)
    return Offered(
        schedule="; ".join(schedules) if len(schedules) > 1 else only,
        rate=None if rate is None else rate * factor,
        connections=sum(group.connections for group in scenario.groups),
        principals=sum(group.principals for group in scenario.groups),
    )
