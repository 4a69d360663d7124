"""An earlier run that a new one is compared with (``BASELINE=``)."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from scripts.load.record import FORMAT, Record


class BaselineUnusable(ValueError):
    """The file can not be compared with; the text says why."""


def read(path: Path, scenario: str) -> Record:
    """Of a file, or of the folder that a run of several scenarios has left."""
    file = path / f"{scenario}.json" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BaselineUnusable(f"The baseline {file} can not be read: {error}") from error
    try:
        kept = json.loads(text)
    except json.JSONDecodeError as error:
        raise BaselineUnusable(f"The baseline {file} is not JSON: {error}") from error
    if not isinstance(kept, dict) or "format" not in kept:
        raise BaselineUnusable(f"The baseline {file} is no record of a load test.")
    if kept["format"] != FORMAT:
        raise BaselineUnusable(
            f"The baseline {file} has format {kept['format']!r}, this program reads {FORMAT}: "
            "make it anew with the present program."
        )
    try:
        record = Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BaselineUnusable(
            f"The baseline {file} is no record of a load test: {place}: {first['msg']}"
        ) from error
    if record.scenario != scenario:
        raise BaselineUnusable(
            f"The baseline {file} is of the scenario {record.scenario!r}, not {scenario!r}."
        )
    return record


def differences(record: Record, baseline: Record) -> list[str]:
    """What else was not the same, so that a change may come from there; in words."""
    before, now = baseline, record
    pairs = [
        ("processor", before.machine.cpu, now.machine.cpu),
        ("cores", before.machine.cores, now.machine.cores),
        ("memory", f"{before.machine.memory_mib} MiB", f"{now.machine.memory_mib} MiB"),
        ("system", before.machine.system, now.machine.system),
        ("Python", before.machine.python, now.machine.python),
        ("fleet", _fleet(before), _fleet(now)),
        ("schedule", before.offered.schedule, now.offered.schedule),
        ("connections", before.offered.connections, now.offered.connections),
        ("principals", before.offered.principals, now.offered.principals),
        ("seed", before.seed, now.seed),
        *_packages(before, now),
    ]
    found = [f"{name}: {old} then, {new} now" for name, old, new in pairs if old != new]
    if before.generator.bottleneck:
        found.append("the generator had fallen behind in the baseline")
    return found


def _fleet(record: Record) -> str:
    fleet = record.fleet
    if fleet is None:
        return record.target
    changed = ", ".join(f"{name}={value}" for name, value in sorted(fleet.environment.items()))
    size = f"{fleet.replicas} × {fleet.workers} workers"
    return f"{size} ({changed})" if changed else size


def _packages(before: Record, now: Record) -> list[tuple[str, str, str]]:
    old, new = before.machine.packages, now.machine.packages
    return [(name, old.get(name, "none"), new.get(name, "none")) for name in sorted({*old, *new})]
