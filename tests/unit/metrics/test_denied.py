from __future__ import annotations

from service.metrics.denied import MOST_PRINCIPALS, DeniedPrincipals


def test_each_refusal_is_counted_until_it_is_taken() -> None:
    denied = DeniedPrincipals()
    for name in ("a", "b", "a"):
        denied.note(name)
    assert denied.taken() == {"a": 2, "b": 1}
    assert denied.taken() == {}


def test_names_are_bounded_and_those_known_go_on_being_counted() -> None:
    denied = DeniedPrincipals()
    denied.note("known")
    for number in range(MOST_PRINCIPALS * 2):
        denied.note(f"ip:{number}")
    denied.note("known")
    taken = denied.taken()
    assert len(taken) == MOST_PRINCIPALS
    assert taken["known"] == 2
