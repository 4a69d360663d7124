"""Where flows stand in the cache."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

NAMESPACE = "flow"
#: The list of flows on sale: every change of a flow makes it old.
INDEX = "index"


def uid_key(uid: UUID | str) -> str:
    """Of a flow."""
    return f"uid:{uid}"


def alias_key(name: str) -> str:
    """Of the uid that a name stands for; ``name`` in the form of ``definition.alias``."""
    return f"alias:{name}"


def keys_of_change(uids: Iterable[UUID | str], aliases: Iterable[str]) -> tuple[str, ...]:
    """What a change of these flows and names makes old; nothing if it is of none."""
    keys = (*map(uid_key, uids), *map(alias_key, aliases))
    return (INDEX, *keys) if keys else ()
