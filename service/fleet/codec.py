"""Reports and samples as bytes, and back; what another version wrote is read as far as it goes."""

from __future__ import annotations

from dataclasses import replace

from pydantic import TypeAdapter, ValidationError

from service.fleet.models import Numbers, Report, Sample

#: Of one report and of one sample; both are about 2 KB.
MOST_BYTES = 16 * 1024

_REPORT = TypeAdapter(Report)
_SAMPLE = TypeAdapter(Sample)


def report_bytes(report: Report) -> bytes:
    """Never more than MOST_BYTES: the less important is left out first."""
    raw = _REPORT.dump_json(report)
    if len(raw) > MOST_BYTES:
        raw = _REPORT.dump_json(replace(report, denied=(), numbers=_shortest(report.numbers)))
    return raw


def sample_bytes(sample: Sample) -> bytes:
    raw = _SAMPLE.dump_json(sample)
    if len(raw) > MOST_BYTES:
        raw = _SAMPLE.dump_json(replace(sample, numbers=_shortest(sample.numbers)))
    return raw


def report_from(raw: bytes) -> Report | None:
    """None for what this version cannot read."""
    try:
        return _REPORT.validate_json(raw)
    except ValidationError:
        return None


def sample_from(raw: bytes, at_s: float) -> Sample | None:
    """``at_s`` is the server's, which all samples share."""
    try:
        return replace(_SAMPLE.validate_json(raw), at_s=at_s)
    except ValidationError:
        return None


def _shortest(numbers: Numbers) -> Numbers:
    return replace(numbers, traffic={}, seconds={}, decisions={})
