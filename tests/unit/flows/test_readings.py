"""What a reference to a flow may mean."""

from __future__ import annotations

import pytest

from service.flows.catalog import _readings


@pytest.mark.parametrize(
    ("reference", "readings"),
    [
        ("echo", [("echo", None)]),
        ("echo+free", [("echo", "free"), ("echo+free", None)]),
        ("C++ review+free", [("C++ review", "free"), ("C++ review+free", None)]),
        ("echo free", [("echo free", None), ("echo", "free")]),
        ("", []),
        ("  ", []),
        ("a\x00b", []),
        ("\ud800", []),
        ("a" * 271, []),
    ],
)
def test_readings_in_order(reference: str, readings: list[tuple[str, str | None]]) -> None:
    assert list(_readings(reference)) == readings
