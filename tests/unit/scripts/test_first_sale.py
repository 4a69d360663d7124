"""The README's first sale is the one ``make run`` prints."""

from __future__ import annotations

from scripts.first_sale import first_sale
from scripts.running import ROOT


def test_readme_shows_the_sale_that_make_run_prints() -> None:
    printed = first_sale("http://127.0.0.1:8000").strip().splitlines()[3:]
    sale = "\n".join(line.removeprefix("  ") for line in printed)
    assert "start_job" in sale
    assert sale in (ROOT / "README.md").read_text(encoding="utf-8")
