"""What the policies let through, beside what they may at most, and how evenly."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import Element

from scripts.load.judging.figures import figure, number, seconds, share
from scripts.load.record import Admissions, Record
from scripts.load.report.bars import bar, span
from scripts.load.report.markup import Child, badge, el, section, table

#: The moment of an admission is known only between sent and answered.
TOLERATED_TOKENS: Final = 1.0
#: Jain's index: below this some get visibly less of what they asked for than others.
_UNEVEN: Final = 0.9
_PERIODS: Final = ((1, "second"), (60, "minute"), (3600, "hour"), (86_400, "day"))


def limits(record: Record, identity: str) -> Element | None:
    if not record.admissions:
        return None
    ordered = sorted(record.admissions, key=lambda one: -one.worst_excess)
    bounds = table(
        ("Policy", "Group", "Limit", "Admitted of the bound", "", "Worst window", "Verdict"),
        (_bound_row(one) for one in ordered),
        numbers=(3,),
        caption="Admitted against the theoretical bound",
        class_="bars",
    )
    even = table(
        ("Policy", "Group", "Principals", "Least", "Mean", "Most", "", "Jain's index"),
        (_even_row(one) for one in ordered),
        numbers=(2, 3, 4, 5, 7),
        caption="Fairness between principals",
        class_="bars",
    )
    return section(
        f"{identity}-limits",
        "Limits",
        el("h4", "Admitted against the bound"),
        el("div", bounds, class_="scroll"),
        el(
            "p",
            "The bound of one principal is burst + rate × time, in every window of the run. The "
            "bar is all admitted of all that could have been (the line: 100 %); the worst window "
            "is where one principal got most beyond its own bound, or came nearest to it.",
            class_="hint",
        ),
        el("h4", "Between principals", class_="over"),
        el("div", even, class_="scroll"),
        el(
            "p",
            "Requests admitted by principal, from the one with the fewest to the one with the "
            "most; the dot is the mean, the line what each may have at most. Jain's index is 1 "
            "when all got the same; whoever asked for less also got less.",
            class_="hint",
        ),
    )


def _bound_row(one: Admissions) -> list[Child]:
    used = one.admitted / one.allowed if one.allowed > 0 else float(one.admitted > 0)
    wide = max(1.0, used) * 1.05
    above = one.worst_excess > TOLERATED_TOKENS
    return [
        one.policy,
        one.group,
        el("span", f"{_rate(one.rate_per_s)}, burst {number(one.burst)}", class_="whole"),
        f"{number(one.admitted)} of {number(one.allowed)} ({share(one.admitted, one.allowed)})",
        bar(used / wide, style="s2" if above else "s0", limit=1 / wide),
        _window(one),
        badge("✗ above", "bad") if above else badge("✓ within", "good"),
    ]


def _window(one: Admissions) -> Element:
    tokens = figure(abs(one.worst_excess), "tokens")
    side = "above" if one.worst_excess > 0 else "below"
    text = "at the bound" if tokens == "0 tokens" else f"{tokens} {side} the bound"
    where = f"{one.worst_principal}, {seconds(one.worst_window_s)}"
    return el("span", text, el("span", f" ({where})", class_="quiet"), class_="long")


def _even_row(one: Admissions) -> list[Child]:
    mean = one.admitted / one.principals if one.principals else 0.0
    each = one.allowed / one.principals if one.principals else 0.0
    wide = max(float(one.most), each, 1.0) * 1.05
    # Where nobody was denied, each got what it asked for.
    uneven = one.fairness < _UNEVEN and one.offered > one.admitted and one.principals > 1
    return [
        one.policy,
        one.group,
        number(one.principals),
        number(one.least),
        number(round(mean, 1)),
        number(one.most),
        span(one.least / wide, mean / wide, one.most / wide, limit=each / wide),
        badge(f"{one.fairness:.3f}", "warn" if uneven else ""),
    ]


def _rate(rate_per_s: float) -> str:
    """In the shortest period in which it is a whole number, else by the second."""
    for length, name in _PERIODS:
        count = rate_per_s * length
        if 1 <= count < 1e9 and abs(count - round(count)) < 1e-6 * max(1.0, count):
            return f"{number(round(count))}/{name}"
    return f"{number(rate_per_s)}/second"
