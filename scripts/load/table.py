"""A record in a screenful: what was served how fast, and what was judged."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.load.record import KINDS, Record, Requests

_HEADS = ("group", "route", "sent", *KINDS, "p50 ms", "p99 ms", "max ms")


def table(record: Record) -> str:
    lines = _aligned([_HEADS, *(_row(one) for one in record.requests)])
    answered = sum(sum(one.kinds.values()) for one in record.requests)
    lines += ["", f"{answered / record.seconds:.1f} requests/s. {record.generator.says}"]
    for one in record.admissions:
        lines.append(
            f"Limit {one.policy}, {one.group}: {one.admitted} of {one.offered} admitted,"
            f" {_beside(one.worst_excess)} in the worst window"
        )
    if (sales := record.sales) is not None:
        lines.append(
            f"Sales: {sales.begun} begun, {sales.refused} refused, {sales.paid} paid,"
            f" {sales.completed} completed, {sales.lost} lost, {sales.doubled} doubled"
        )
        lines += [f"  {finding}" for finding in sales.findings]
    for reference in record.references:
        lines.append(
            f"{reference.command}: {reference.per_second:.0f} requests/s, ours"
            f" {reference.ours_per_second / reference.per_second:.0%} of that"
        )
    lines.append("")
    for verdict in record.verdicts:
        if verdict.judged or not verdict.passed:
            mark = "ok    " if verdict.passed else "FAILED"
            lines.append(f"{mark} {verdict.name}: {verdict.measured} ({verdict.limit})")
    return "\n".join(lines)


def _row(one: Requests) -> tuple[str, ...]:
    latency = one.latency
    shown = (latency.p50, latency.p99, latency.max) if latency else ()
    return (
        one.group,
        one.route,
        str(one.sent),
        *(str(one.kinds.get(kind, 0)) for kind in KINDS),
        *(f"{value:.1f}" for value in shown),
        *("-" for _ in range(3 - len(shown))),
    )


def _beside(excess: float) -> str:
    return f"{abs(excess):.1f} tokens {'above' if excess > 0 else 'below'} the bound"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
