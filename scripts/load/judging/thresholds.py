"""What a run must hold to: thresholds as data, and the verdicts on one record."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scripts.load.judging.figures import figure, number
from scripts.load.judging.measures import MEASURES, Measure, Where
from scripts.load.record import Record, Verdict
from scripts.running import ROOT

FILE: Final = ROOT / "config" / "load" / "thresholds.toml"
BASELINE: Final = "baseline"


class ThresholdsUnreadable(ValueError):
    """The file of thresholds is missing or wrong; the text says where."""


class Threshold(BaseModel):
    """One line a run may not cross; docs/load-report.md tells each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    measure: str
    says: str | None = None
    group: str | None = None
    route: str | None = None
    policy: str | None = None
    part: str | None = None
    each: Literal["group", "route", "policy"] | None = None
    against: str | None = Field(None, description="baseline, or a group of the same run")
    at_most: float | None = None
    at_least: float | None = None
    slack: float = Field(0, ge=0, description="in the measure's unit, on top of a comparison")
    required: bool = True
    off: bool = False
    why: str | None = None

    @field_validator("measure")
    @classmethod
    def known(cls, name: str) -> str:
        if name not in MEASURES:
            raise ValueError(f"there is no measure {name!r}; there are {', '.join(MEASURES)}")
        return name

    @model_validator(mode="after")
    def whole(self) -> Self:
        if self.off:
            if not self.why:
                raise ValueError("a threshold that is off must say why")
            return self
        if (self.at_most is None) == (self.at_least is None):
            raise ValueError("one of at_most and at_least must stand here")
        if self.slack and self.against is None:
            raise ValueError("slack is for what is compared (against)")
        if self.each is not None and getattr(self, self.each) is not None:
            raise ValueError(f"each {self.each} and one {self.each} exclude each other")
        return self

    @property
    def where(self) -> Where:
        return Where(self.group, self.route, self.policy, self.part)


class Thresholds(BaseModel):
    """The whole file: what every scenario keeps to, and what one has instead or beside."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: dict[str, dict[str, Any]] = {}
    scenario: dict[str, dict[str, dict[str, Any]]] = {}

    @model_validator(mode="after")
    def readable(self) -> Self:
        for scenario in ("", *self.scenario):
            self.of(scenario)
        return self

    def of(self, scenario: str) -> list[Threshold]:
        own = self.scenario.get(scenario, {})
        found = []
        for name in {**self.every, **own}:
            fields = {**self.every.get(name, {}), **own.get(name, {})}
            try:
                found.append(Threshold.model_validate(fields))
            except ValidationError as error:
                table = f"scenario.{scenario}.{name}" if name in own else f"every.{name}"
                raise ValueError(f"[{table}] {_first(error)}") from error
        return [threshold for threshold in found if not threshold.off]


def read(path: Path = FILE) -> Thresholds:
    try:
        with path.open("rb") as file:
            return Thresholds.model_validate(tomllib.load(file))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ThresholdsUnreadable(f"{path} can not be read: {error}") from error
    except ValidationError as error:
        raise ThresholdsUnreadable(f"{path}: {_first(error)}") from error


def judge(record: Record, thresholds: Thresholds, baseline: Record | None = None) -> list[Verdict]:
    """Comparisons with a baseline are left out when there is none."""
    return [
        _verdict(record, threshold, where, baseline)
        for threshold in thresholds.of(record.scenario)
        if baseline is not None or threshold.against != BASELINE
        for where in _places(record, threshold, baseline)
    ]


def _places(record: Record, threshold: Threshold, baseline: Record | None) -> Iterator[Where]:
    """Where to measure; ``each`` also in what only the baseline has: that is lost, not mended."""
    if threshold.each is None:
        yield threshold.where
        return
    names: dict[str, None] = {}
    for one in (record, baseline if threshold.against == BASELINE else None):
        if one is not None:
            places = one.admissions if threshold.each == "policy" else one.requests
            for place in places:
                if threshold.group in (None, place.group):
                    names[getattr(place, threshold.each)] = None
    if not names:
        yield threshold.where
    for name in names:
        yield replace(threshold.where, **{threshold.each: name})


def _verdict(
    record: Record, threshold: Threshold, where: Where, baseline: Record | None
) -> Verdict:
    measure = MEASURES[threshold.measure]
    value = measure.of(record, where)
    bound, limit = _bound(record, threshold, where, baseline)
    judged, passed = value is not None and bound is not None, False
    if value is None:
        measured = "absent: nothing of this was measured"
        passed = not threshold.required
    elif bound is None:
        measured = f"{_text(threshold, value)}, but nothing to compare with"
        # What is new has no past; a group that should be there has no excuse.
        passed = threshold.against == BASELINE or not threshold.required
    elif measure.speed and record.generator.bottleneck and not _least(threshold, value, bound):
        judged = False
        measured = f"{_text(threshold, value)}, not judged: the generator was the bottleneck"
    else:
        passed = value <= bound if threshold.at_most is not None else value >= bound
        measured = _text(threshold, value)
        if threshold.measure == "generator":
            measured = record.generator.says
    return Verdict(
        name=_name(threshold, measure, where),
        limit=limit,
        measured=measured,
        passed=passed,
        judged=judged,
        measure=threshold.measure,
        bound=bound,
        group=where.group,
        route=where.route,
        against=_against(threshold),
    )


def _least(threshold: Threshold, value: float, bound: float) -> bool:
    """A rate that was reached in spite of the generator is the least the fleet can do."""
    rates = ("throughput", "goodput")
    absolute = threshold.against is None and threshold.at_least is not None
    return threshold.measure in rates and absolute and value >= bound


def _bound(
    record: Record, threshold: Threshold, where: Where, baseline: Record | None
) -> tuple[float | None, str]:
    """The limit as a number, if there is one, and in words."""
    most = threshold.at_most is not None
    bound = threshold.at_most if threshold.at_most is not None else threshold.at_least or 0.0
    words = "at most" if most else "at least"
    if threshold.measure == "generator":
        return bound, "it was not the bottleneck"
    if threshold.against is None:
        return bound, f"{words} {_text(threshold, bound)}"
    if threshold.against == BASELINE:
        other, place, whose = baseline, where, "the baseline"
    else:
        other, place, whose = record, replace(where, group=threshold.against), threshold.against
    reference = MEASURES[threshold.measure].of(other, place) if other is not None else None
    words += f" {number(bound)} × {whose}"
    if threshold.slack:
        words += f" {'plus' if most else 'less'} {_text(threshold, threshold.slack)}"
    if reference is None:
        return None, words
    limit = reference * bound + (threshold.slack if most else -threshold.slack)
    return limit, f"{words} = {_text(threshold, limit)}"


def _name(threshold: Threshold, measure: Measure, where: Where) -> str:
    if threshold.says is not None:
        return f"{threshold.says}: {where}" if threshold.each and str(where) else threshold.says
    name = f"{measure.words}: {where}" if str(where) else measure.words
    return f"{name}, beside {threshold.against}" if threshold.against else name


def _text(threshold: Threshold, value: float) -> str:
    return figure(value, MEASURES[threshold.measure].unit)


def _against(threshold: Threshold) -> Literal["", "group", "baseline"]:
    if threshold.against is None:
        return ""
    return "baseline" if threshold.against == BASELINE else "group"


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
