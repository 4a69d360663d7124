"""How the run ended: what it did not hold to first, then the figures that sum it up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from scripts.load.judging import figures
from scripts.load.judging.measures import MEASURES, Where
from scripts.load.record import Kind, Record, Verdict
from scripts.load.report.markup import badge, el, facts, section, table
from scripts.load.report.timelines import groups


def banner(record: Record, identity: str) -> Element:
    """✓ or ✗, and every threshold that was crossed."""
    missed = [one for one in record.verdicts if not one.passed]
    kind, sign, head = _outcome(record, missed)
    return el(
        "section",
        el("span", sign, class_="sign", aria_hidden="true"),
        el(
            "div",
            el("h3", head, id=f"{identity}-verdict-title"),
            el("p", _subline(record, missed)),
            el("ul", (_missed(one) for one in missed)) if missed else None,
        ),
        class_=f"verdict {kind}",
        id=f"{identity}-verdict",
        aria_labelledby=f"{identity}-verdict-title",
    )


def outcome(record: Record) -> tuple[str, str]:
    """The style and the word of a run, for a list of several."""
    missed = [one for one in record.verdicts if not one.passed]
    kind, sign, _ = _outcome(record, missed)
    word = {"good": "passed", "bad": "failed", "warn": "not judged"}[kind]
    return kind, f"{sign} {word}"


def all_verdicts(record: Record, identity: str) -> Element | None:
    if not record.verdicts:
        return None
    ordered = sorted(record.verdicts, key=lambda one: (one.passed, not one.judged))
    return section(
        f"{identity}-thresholds",
        "Thresholds",
        el(
            "div",
            table(
                ("Threshold", "Limit", "Measured", "Verdict"),
                ([one.name, one.limit, one.measured, _mark(one)] for one in ordered),
                caption="Thresholds and what was measured",
                class_="verdicts",
            ),
            class_="scroll",
        ),
    )


def warning(record: Record) -> Element | None:
    """Said before any figure is read."""
    if not record.generator.bottleneck:
        return None
    told = any(one.measure == "generator" and not one.passed for one in record.verdicts)
    return el(
        "p",
        el("b", "The generator was the bottleneck. "),
        None if told else f"{record.generator.says} ",
        "Latencies and throughput are its own, not the fleet's.",
        class_="notice warn",
    )


def what_ran(record: Record, identity: str) -> Element:
    machine, fleet = record.machine, record.fleet
    size = f"{fleet.replicas} × {fleet.workers} workers" if fleet else "not started by this run"
    environment = fleet.environment if fleet else {}
    packages = sorted(machine.packages.items())
    pairs: list[tuple[str, Element | str]] = [
        ("Command", el("code", record.command)),
        ("Target", el("code", record.target)),
        ("Began", record.began.strftime("%Y-%m-%d %H:%M:%S %Z").strip()),
        ("Lasted", figures.seconds(record.seconds)),
        ("Schedule", record.offered.schedule),
        ("Connections", figures.number(record.offered.connections)),
        ("Principals", figures.number(record.offered.principals)),
        ("Seed", str(record.seed)),
        ("Fleet", size),
        ("Processor", f"{machine.cpu}, {machine.cores} cores"),
        ("Memory", figures.size(machine.memory_mib * 1024 * 1024)),
        ("System", f"{machine.system}, Python {machine.python}"),
    ]
    return section(
        f"{identity}-run",
        "What was run, and where",
        facts(pairs),
        el(
            "p",
            el("span", "Settings: ", class_="quiet"),
            _joined(f"{name}={value}" for name, value in sorted(environment.items())),
            class_="small",
        )
        if environment
        else None,
        el(
            "p",
            el("span", "Packages: ", class_="quiet"),
            _joined(f"{name} {version}" for name, version in packages),
            class_="small",
        )
        if packages
        else None,
    )


@dataclass(frozen=True, slots=True)
class _Tile:
    name: str
    measure: str
    #: Whether more of it is better; None: neither.
    more: bool | None
    hint: str
    #: In place of the figure.
    shown: str | None = None


def tiles(record: Record, baseline: Record | None) -> Element:
    return el("div", (_tile(record, baseline, one) for one in _tiles(record)), class_="tiles")


def _tiles(record: Record) -> Iterator[_Tile]:
    sent = sum(one.sent for one in record.requests)
    yield _Tile("Served a second", "goodput", True, f"{figures.number(sent)} requests sent")
    yield _Tile("p50", "p50_ms", False, "half were served within")
    yield _Tile("p99", "p99_ms", False, _by_group(record))
    yield _Tile("Failed", "failed", False, f"{_of_all(record, 'failed')}, 5xx or no answer")
    yield _Tile("Denied", "denied", None, f"{_of_all(record, 'denied')}, by a limit")
    excess = MEASURES["worst_excess"].of(record, Where())
    if excess is not None and excess > 0:
        yield _Tile("Above the bound", "worst_excess", False, "tokens, in the worst window")
    elif excess is not None:
        nearest = f"nearest: {figures.figure(-excess, 'tokens')} below"
        yield _Tile("Above the bound", "worst_excess", False, nearest, shown="none")
    if record.sales is not None and record.sales.paid:
        completed, begun = record.sales.completed, record.sales.begun
        ratio = f"{figures.number(completed)} of {figures.number(begun)} begun"
        yield _Tile("Sales completed", "completed_share", True, ratio)
    if record.costs is not None:
        commands = record.costs.redis_commands
        hint = "all of the fleet"
        if commands is not None:
            hint = f"and {figures.number(commands)} Redis commands"
        yield _Tile("CPU per request", "cpu_us", False, hint)


def _of_all(record: Record, kind: Kind) -> str:
    sent = sum(one.sent for one in record.requests)
    count = sum(one.kinds.get(kind, 0) for one in record.requests)
    return "none" if not count else f"{figures.share(count, sent)} of all"


def _by_group(record: Record) -> str:
    of = MEASURES["p99_ms"].of
    found = [(name, of(record, Where(group=name))) for name in groups(record)[:3]]
    told = [f"{name} {figures.milliseconds(value)}" for name, value in found if value is not None]
    return ", ".join(told) if len(told) > 1 else "99 of 100 within"


def _tile(record: Record, baseline: Record | None, one: _Tile) -> Element:
    measure = MEASURES[one.measure]
    value = measure.of(record, Where())
    crossed = any(not v.passed and v.measure == one.measure and v.judged for v in record.verdicts)
    before = measure.of(baseline, Where()) if baseline is not None else None
    text = figures.figure(value, measure.unit).removesuffix(f" {measure.unit}")
    if measure.unit not in ("/s", "tokens"):
        text = figures.figure(value, measure.unit)
    return el(
        "div",
        el("span", one.name, class_="name"),
        el("b", one.shown or text),
        moved(before, value, more=one.more, unit=measure.unit) if before is not None else None,
        el("span", one.hint, class_="hint"),
        class_="tile bad" if crossed else "tile",
    )


def moved(before: float | None, now: float | None, *, more: bool | None, unit: str) -> Element:
    """How a figure has changed, and whether that is for the better."""
    if before == now:
        return el("span", "as in the baseline", class_="change")
    if before is not None and now is not None and max(before, now) <= 0:
        return el("span", "held then too", class_="change")
    text = figures.change(before, now)
    if text == figures.NONE:
        text = f"was {figures.figure(before, unit)}"
    ratio = figures.times(before, now)
    near = ratio is not None and abs(ratio - 1) < 0.03
    if near or more is None or before is None or now is None:
        return el("span", text, class_="change")
    better = (now > before) == more
    arrow = "▲" if now > before else "▼"
    words = "better" if better else "worse"
    return el("span", f"{arrow} {text} {words}", class_=f"change {'better' if better else 'worse'}")


def _outcome(record: Record, missed: Sequence[Verdict]) -> tuple[str, str, str]:
    count = len(record.verdicts) - _left_out(record)
    if not record.verdicts:
        return "warn", "!", "Not judged: there were no thresholds"
    if not count:
        return "warn", "!", "Not judged: no threshold had anything to judge"
    if missed:
        return "bad", "✗", f"Failed: {len(missed)} of {count} thresholds"
    return (
        "good",
        "✓",
        "Passed: it holds to its only threshold"
        if count == 1
        else (f"Passed: all {count} thresholds hold"),
    )


def _subline(record: Record, missed: Sequence[Verdict]) -> str:
    sent = sum(one.sent for one in record.requests)
    lasted = figures.seconds(record.seconds)
    text = f"{figures.number(sent)} requests in {lasted}."
    unjudged = sum(not one.judged for one in missed)
    if unjudged:
        text += f" {unjudged} of the failed could not be judged, which fails them too."
    left_out = _left_out(record)
    if left_out:
        text += f" {left_out} more had nothing to judge here, and need not."
    return text


def _left_out(record: Record) -> int:
    return sum(one.passed and not one.judged for one in record.verdicts)


def _missed(one: Verdict) -> Element:
    return el("li", el("b", f"{one.name}: "), f"{one.measured} ", _limit(one))


def _limit(one: Verdict) -> Element:
    return el("span", f"(limit: {one.limit})", class_="limits")


def _mark(one: Verdict) -> Element:
    if one.passed and not one.judged:
        return badge("– not judged")
    return badge("✓ holds", "good") if one.passed else badge("✗ failed", "bad")


def _joined(parts: Iterator[str]) -> Element:
    return el("span", (el("code", part, class_="chip") for part in parts), class_="chips")
