"""The chain of hops a request came over, nearest first, from either forwarding header. Pure.

What stands left of a trusted proxy's own entry was written by somebody else, perhaps to confuse:
so both headers are read from the right, and nothing to the left can change what was read so far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal

from service.admission.networks import Address, parse_address

Scheme = Literal["x-forwarded-for", "forwarded"]

#: No honest chain is longer; what stands further left is not looked at.
MAX_HOPS = 16
MAX_HEADER_BYTES = 4096
_PAIR = r'[!#$%&\'*+.^_`|~0-9A-Za-z-]+=(?:"(?:[^"\\]|\\.)*"|[^\s",;]*)'
_ELEMENT = re.compile(rf"{_PAIR}(?:[ \t]*;[ \t]*(?:{_PAIR})?)*")
_NODE = re.compile(r'(?:^|;)[ \t]*for=("(?:[^"\\]|\\.)*"|[^\s",;]*)', re.IGNORECASE)


def hops(scheme: Scheme, lines: Sequence[str]) -> list[Address | None]:
    """The hops, nearest first; None stands for one that cannot be read and ends the list.

    Repeated header lines are one list (RFC 9110, 5.3).
    """
    whole = ",".join(lines)
    tail = whole[-MAX_HEADER_BYTES:]
    entries = list(islice(_entries(tail, quoted=scheme == "forwarded"), MAX_HOPS))
    found: list[Address | None] = []
    for start, entry in entries:
        if start == 0 and len(tail) < len(whole):
            break  # cut in two by the limit
        found.append(_READERS[scheme](entry.strip(" \t")))
        if found[-1] is None:
            break
    return found


def _entries(text: str, *, quoted: bool) -> Iterator[tuple[int, str]]:
    """The entries with their places, rightmost first; commas in quoted strings part nothing."""
    end = at = len(text)
    inside = False
    while at > 0:
        at -= 1
        if text[at] == '"' and quoted:
            inside = not inside if not (inside and _is_escaped(text, at)) else inside
        elif text[at] == "," and not inside:
            yield at + 1, text[at + 1 : end]
            end = at
    yield 0, text[:end]


def _is_escaped(text: str, at: int) -> bool:
    """Is the character at this place of a quoted string escaped by a backslash?"""
    before = at
    while before > 0 and text[before - 1] == "\\":
        before -= 1
    return (at - before) % 2 == 1


def _node_of_list(entry: str) -> Address | None:
    """An entry of X-Forwarded-For, quoted or not."""
    return _address(entry.strip('"').strip())


def _node_of_element(element: str) -> Address | None:
    """The ``for`` of an element of Forwarded (RFC 7239, 4); None unless there is exactly one."""
    if not _ELEMENT.fullmatch(element):
        return None
    # Emptied first, so that a "for=" inside somebody's quoted string is not taken for a parameter.
    nodes = _NODE.findall(_without_other_strings(element))
    if len(nodes) != 1:
        return None
    node: str = nodes[0]
    if node.startswith('"'):
        node = re.sub(r"\\(.)", r"\1", node[1:-1])
    return _address(node)


def _without_other_strings(element: str) -> str:
    return re.sub(
        r'(?i)([^=;\s]+)=("(?:[^"\\]|\\.)*")',
        lambda pair: pair[0] if pair[1].lower() == "for" else f"{pair[1]}=",
        element,
    )


def _address(text: str) -> Address | None:
    """An address in any of the spellings proxies use: bracketed, with port or zone."""
    if text.startswith("["):
        text, bracket, _port = text[1:].partition("]")
        if not bracket:
            return None
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return parse_address(text)


_READERS: Mapping[Scheme, Callable[[str], Address | None]] = {
    "x-forwarded-for": _node_of_list,
    "forwarded": _node_of_element,
}
