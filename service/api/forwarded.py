"""The chain of hops a request came over, nearest first, from either forwarding header. Pure.

What stands left of a trusted proxy's own entry was written by somebody else, perhaps to confuse:
so both headers are read from the right, and nothing to the left can change what was read so far.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

from service.admission.networks import Address, parse_address

Scheme = Literal["x-forwarded-for", "forwarded"]

#: No honest chain is longer; what stands further left is not looked at.
MAX_HOPS = 16
MAX_HEADER_BYTES = 4096
#: Nor has an honest element more parameters, nor all of them together more marks.
_MAX_PAIRS = 16
_MAX_MARKS = 128
# Possessive throughout: garbage is refused in one pass.
_PAIR = re.compile(
    r"""
    [ \t;]*+ ([!#$%&'*+.^_`|~0-9A-Za-z-]++)
    = ("(?:[^"\\]|\\.)*+"|[^\s",;]*+)
    [ \t]*+ (?:;|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)


def hops(scheme: Scheme, lines: Sequence[str]) -> list[Address | None]:
    """The hops, nearest first; None stands for one that cannot be read and ends the list.

    Repeated header lines are one list (RFC 9110, 5.3).
    """
    whole = ",".join(lines)
    tail = whole[-MAX_HEADER_BYTES:]
    by_element = scheme == "forwarded"
    entries = list(islice(_elements(tail) if by_element else _items(tail), MAX_HOPS + 1))
    if len(entries) > MAX_HOPS or len(tail) < len(whole):
        entries.pop()  # too far left, or cut in two by the limit
    found: list[Address | None] = []
    for entry in entries:
        found.append(_node_of_element(entry) if by_element else _node_of_item(entry))
        if found[-1] is None:
            break
    return found


def _items(text: str) -> list[str]:
    return text.rsplit(",", MAX_HOPS)[::-1]


def _elements(text: str) -> Iterator[str]:
    """Rightmost first; commas in quoted strings part nothing."""
    end = at = len(text)
    inside = False
    for _ in range(_MAX_MARKS):
        at = max(text.rfind('"', 0, at), text.rfind(",", 0, at))
        if at < 0:
            break
        if text[at] == ",":
            if not inside:
                yield text[at + 1 : end]
                end = at
        elif not (inside and _is_escaped(text, at)):
            inside = not inside
    yield text[:end]


def _is_escaped(text: str, at: int) -> bool:
    """Is the character at this place of a quoted string escaped by a backslash?"""
    before = text[:at]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _node_of_item(item: str) -> Address | None:
    """An entry of X-Forwarded-For, quoted or not."""
    return _address(item.strip().strip('"').strip())


def _node_of_element(element: str) -> Address | None:
    """The ``for`` of an element of Forwarded (RFC 7239, 4); None unless there is exactly one."""
    element = element.strip(" \t;")
    nodes: list[str] = []
    at = 0
    for _ in range(_MAX_PAIRS):
        if at == len(element):
            break
        pair = _PAIR.match(element, at)
        if pair is None:
            return None
        if pair[1].lower() == "for":
            nodes.append(pair[2])
        at = pair.end()
    if at < len(element) or len(nodes) != 1:
        return None
    node = nodes[0]
    if node.startswith('"'):
        node = re.sub(r"(?s)\\(.)", r"\1", node[1:-1])
    return _address(node)


def _address(text: str) -> Address | None:
    """An address in any of the spellings proxies use: bracketed, with port or zone."""
    if text.startswith("["):
        text, bracket, _port = text[1:].partition("]")
        if not bracket:
            return None
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    return parse_address(text)
