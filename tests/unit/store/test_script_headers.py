"""The header of a script is a contract; here it is held against the code below it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SERVICE = Path(__file__).parents[3] / "service"
SCRIPTS = sorted(SERVICE.rglob("*.lua"))
CALLS = re.compile(r'\.script\(\s*__package__,\s*"(\w+)",\s*keys=(\w+)\s*\)')


def header_and_body(script: Path) -> tuple[str, str]:
    lines = script.read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("--"))
    return "\n".join(lines[:end]), "\n".join(lines[end:])


def indices(name: str, text: str) -> set[str]:
    return set(re.findall(rf"\b{name}\[([^\]]+)\]", text))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_header_names_exactly_the_keys_and_arguments_the_script_uses(script: Path) -> None:
    header, body = header_and_body(script)
    for name in ("KEYS", "ARGV"):
        assert indices(name, header) == indices(name, body), f"{name} of {script}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_numbered_keys_and_arguments_leave_no_gap(script: Path) -> None:
    for name in ("KEYS", "ARGV"):
        numbers = {int(i) for i in indices(name, header_and_body(script)[0]) if i.isdigit()}
        assert numbers == set(range(1, len(numbers) + 1)), f"{name} of {script}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_header_states_invariant_reply_and_source(script: Path) -> None:
    header, _ = header_and_body(script)
    for part in ("Invariant: ", "Reply: ", "Source: "):
        assert f"\n-- {part}" in header, f"{script} lacks {part}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_script_reads_the_clock_once_and_walks_no_keyspace(script: Path) -> None:
    _, body = header_and_body(script)
    assert body.count("'TIME'") <= 1
    assert not re.search(r"call\('(KEYS|SCAN)'", body)


def test_every_script_is_called_with_the_key_count_of_its_header() -> None:
    called = {}
    for source in SERVICE.rglob("*.py"):
        for stem, count in CALLS.findall(source.read_text(encoding="utf-8")):
            called[source.parent / f"{stem}.lua"] = count
    assert set(called) == set(SCRIPTS)
    for script, count in called.items():
        named = indices("KEYS", header_and_body(script)[0])
        expected = "None" if any(not index.isdigit() for index in named) else str(len(named))
        assert count == expected, script
