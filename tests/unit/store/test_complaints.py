"""The same complaint once a minute, and how often it was kept back."""

from __future__ import annotations

from service.store.complaints import AGAIN_S, Complaints


def test_a_complaint_is_made_at_once_and_then_once_a_minute_with_all_that_was_kept_back() -> None:
    now_s = 1000.0
    complaints = Complaints(clock=lambda: now_s)
    assert [complaints.due("NOPERM") for _ in range(4)] == [1, 0, 0, 0]
    assert complaints.due("READONLY") == 1
    now_s += AGAIN_S
    assert [complaints.due("NOPERM") for _ in range(2)] == [4, 0]
    assert complaints.due("READONLY") == 1


def test_ever_new_ones_are_not_remembered_for_ever() -> None:
    complaints = Complaints(clock=lambda: 0.0)
    assert all(complaints.due(f"reason {number}") == 1 for number in range(1000))
    assert repr(complaints) == f"<Complaints {1000 % 32 or 32}>"
