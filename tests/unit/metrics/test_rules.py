"""The alert rules by their own tests, and by promtool's opinion."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.promtool import RULES, needed, promtool

pytestmark = needed


@pytest.mark.parametrize(
    "file", sorted((RULES / "tests").glob("*.yml")), ids=lambda file: file.stem
)
def test_rules_fire_when_they_should_and_only_then(file: Path) -> None:
    code, said = promtool("test", "rules", str(file))
    assert code == 0, said


def test_sample_and_rules_are_sound() -> None:
    code, said = promtool("check", "config", str(RULES / "prometheus.yml"))
    assert code == 0, said
    assert said.count("rules found") == len(list(RULES.glob("*.rules.yml")))
