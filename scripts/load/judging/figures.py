"""Numbers as people read them: three figures that matter, thousands apart, a unit that fits."""

from __future__ import annotations

import math
from typing import Final

NONE: Final = "–"
_MINUS: Final = "\N{MINUS SIGN}"


def number(value: float | None) -> str:
    """``1,234``, ``12.3``, ``0.0046``."""
    if value is None or not math.isfinite(value):
        return NONE
    if value < 0:
        return _MINUS + number(-value)
    if value >= 1e15:
        return f"{value:.2e}"
    if value == int(value) or value >= 100:
        return f"{value:,.0f}"
    digits = min(2 - math.floor(math.log10(value)), 6)
    text = f"{value:.{digits}f}"
    # Zeros at the end say how exactly it was measured, unless there was nothing more to say.
    return text.rstrip("0").rstrip(".") if float(text) == value or digits > 2 else text


def milliseconds(value: float | None) -> str:
    """Also as µs or s where those read better."""
    if value is None or not math.isfinite(value):
        return NONE
    if value and abs(value) < 1:
        return f"{number(value * 1000)} µs"
    if abs(value) >= 1000:
        return f"{number(value / 1000)} s"
    return f"{number(value)} ms"


def size(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return NONE
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{number(value)} {unit}"
        value /= 1024
    return f"{number(value)} TiB"


def seconds(value: float | None) -> str:
    """A length of time: ``45 s``, ``2 min 5 s``, ``1 h 30 min``."""
    if value is None or not math.isfinite(value):
        return NONE
    if value < 60:
        return f"{number(value)} s"
    whole = round(value)
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(whole // 60, 60)
    return f"{number(hours)} h {rest} min" if rest else f"{number(hours)} h"


def clock(value: float) -> str:
    """A moment of a run: ``0:05``, ``12:30``, ``1:00:00``."""
    if not math.isfinite(value):
        return NONE
    minutes, rest = divmod(int(value), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def share(part: float, whole: float) -> str:
    """``12.5 %``; what is little is not called nothing, and what is not all not everything."""
    if not whole or not math.isfinite(part) or not math.isfinite(whole):
        return NONE
    percent = 100 * part / whole
    if 0 < percent < 0.01:
        return "< 0.01 %"
    if 99.99 < percent < 100:
        return "> 99.99 %"
    return f"{number(percent)} %"


def change(before: float | None, now: float | None) -> str:
    """``+12 %``; of nothing there is no part."""
    ratio = times(before, now)
    if ratio is None:
        return NONE
    percent = 100 * (ratio - 1)
    if abs(percent) < 0.05:
        return "±0 %"
    if ratio >= 10:
        return f"× {number(ratio)}"
    return f"{'+' if percent > 0 else _MINUS}{abs(percent):.{1 if abs(percent) < 10 else 0}f} %"


def times(before: float | None, now: float | None) -> float | None:
    if before is None or now is None or not math.isfinite(before) or not math.isfinite(now):
        return None
    ratio = now / before if before > 0 else math.inf
    return ratio if math.isfinite(ratio) else None


def figure(value: float | None, unit: str) -> str:
    """With the unit of a measure."""
    if unit == "ms":
        return milliseconds(value)
    if unit == "µs":
        return milliseconds(None if value is None else value / 1000)
    if unit == "bytes":
        return size(value)
    if unit == "tokens" and value is not None and math.isfinite(value):
        value = round(value, 2)
        unit = "token" if value == 1 else unit
    return f"{number(value)} {unit}".rstrip() if value is not None else NONE
