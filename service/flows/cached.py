"""Where flows stand in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

#: The number is that of the form of all values here: workers of two versions keep apart.
NAMESPACE = "flow-2"
#: The list of flows on sale: every change of a flow makes it old.
INDEX = "index"


def uid_key(uid: UUID | str) -> str:
    """The key of a flow."""
    return f"uid:{uid}"


def alias_key(name: str) -> str:
    """The key of the uid that a name stands for; ``name`` in the form of ``definition.alias``."""
    return f"alias:{name}"


@dataclass(frozen=True, slots=True)
class Change:
    """What one statement changed: a name for the change, and the keys it makes old."""

    name: str
    keys: tuple[str, ...]

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Change:
        """As migration 0003 writes it down and tells it; raises KeyError, TypeError."""
        keys = (INDEX, *map(uid_key, record["uids"]), *map(alias_key, record["aliases"]))
        return cls(str(record["change"]), keys)
