"""The note of a service that runs, and who looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import running
from scripts.lock import LOCK, only_one
from scripts.running import Running

HERE = Running("http://a", "http://b", None, None, "Preprod")


def test_who_looks_while_the_note_is_written_sees_all_of_it_or_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write, seen = Path.write_text, list[Running | None]()

    def look_and_write(file: Path, text: str) -> int:
        seen.append(running.read(tmp_path))
        return write(file, text)

    monkeypatch.setattr(Path, "write_text", look_and_write)
    with only_one(tmp_path / LOCK), running.noted(HERE, tmp_path):
        assert running.read(tmp_path) == HERE
        assert (tmp_path / running.COMMAND).stat().st_mode & 0o777 == 0o700
    assert seen
    assert set(seen) == {None}
    assert [file.name for file in tmp_path.iterdir()] == [LOCK]
