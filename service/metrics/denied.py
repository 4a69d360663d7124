"""Whom admission refused, for the operations page; a plain number for each, and bounded.

Not a metric: a client's name never becomes a label.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Between two looks. Who comes when there is no room for more is counted at the next look.
MOST_PRINCIPALS = 2048


class DeniedPrincipals:
    """``note`` is called for each refusal and takes a tenth of a microsecond."""

    __slots__ = ("_refused",)

    def __init__(self) -> None:
        self._refused: dict[str, int] = {}

    def note(self, principal: str) -> None:
        refused = self._refused
        if principal in refused:
            refused[principal] += 1
        elif len(refused) < MOST_PRINCIPALS:
            refused[principal] = 1

    def taken(self) -> Mapping[str, int]:
        """Those since the last call."""
        refused, self._refused = self._refused, {}
        return refused
