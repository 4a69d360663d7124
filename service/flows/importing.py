"""Reads files of flow definitions (TOML or JSON): all of a file, or a line for each fault in it."""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service.errors import ConfigurationError
from service.flows.definition import FlowDefinition

#: More is a wrong file.
_FILE_LIMIT_BYTES = 64 * 1024 * 1024
_MAX_FLOWS = 20_000


def read_definitions(path: Path) -> tuple[FlowDefinition, ...]:
    """The definitions under ``flows`` in a file; raises ConfigurationError, one line per fault."""
    entries = _entries(path)
    definitions: list[FlowDefinition] = []
    faults: list[str] = []
    for i, entry in enumerate(entries):
        name = entry.get("slug") if isinstance(entry, dict) else None
        shown = name if isinstance(name, str) and name and name.isprintable() else f"flows[{i}]"
        where = f"{path}: {shown}"
        try:
            definitions.append(FlowDefinition.model_validate(entry))
        except ValidationError as error:
            faults += [f"{where}: {line}" for line in _fault_lines(error)]
    faults += [f"{path}: {line}" for line in collisions(definitions)]
    if faults:
        raise ConfigurationError("\n".join(faults))
    return tuple(definitions)


def collisions(definitions: list[FlowDefinition]) -> Iterator[str]:
    """A line for each name that would stand for two flows."""
    owners: dict[str, str] = {}
    for definition in definitions:
        for text in sorted({*definition.aliases, str(definition.first_uid())}):
            owner = owners.setdefault(text, definition.slug)
            if owner != definition.slug:
                yield f"{definition.slug}: {text!r} already stands for the flow {owner}"
    defined = Counter(definition.slug for definition in definitions)
    for slug in sorted(slug for slug, times in defined.items() if times > 1):
        yield f"{slug}: defined twice"


def _entries(path: Path) -> list[Any]:
    try:
        if path.stat().st_size > _FILE_LIMIT_BYTES:
            raise ConfigurationError(f"{path}: larger than {_FILE_LIMIT_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        read = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    entries = read.get("flows") if isinstance(read, dict) else None
    if not isinstance(entries, list) or not entries or len(read) > 1:
        raise ConfigurationError(f"{path}: must hold a list named flows, and nothing beside it")
    if len(entries) > _MAX_FLOWS:
        raise ConfigurationError(f"{path}: holds more than {_MAX_FLOWS} flows")
    return entries


def _fault_lines(error: ValidationError) -> Iterator[str]:
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        where = ".".join(str(part) for part in fault["loc"])
        for line in fault["msg"].removeprefix("Value error, ").splitlines():
            yield f"{where}: {line}" if where else line
