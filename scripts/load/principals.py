"""Clients as a service tells them apart: by their address, or by what a proxy says of it."""

from __future__ import annotations

import sys
from ipaddress import IPv4Address
from typing import Literal

#: ``source``: each has an address of this machine's own loopback network, and connections of its
#: own. ``forwarded``: each is named in X-Forwarded-For, on connections of all.
By = Literal["source", "forwarded"]
#: Sixteen million each; 127.0.0.1 itself is nginx's, which replicas trust.
_FIRST = {"source": int(IPv4Address("127.1.0.1")), "forwarded": int(IPv4Address("101.1.1.1"))}


def usual(host: str) -> By:
    """Elsewhere than on Linux only 127.0.0.1 itself is an address one may speak from."""
    local = IPv4Address(host).is_loopback if host.count(".") == 3 else False
    return "source" if local and sys.platform == "linux" else "forwarded"


def address(number: int, by: By) -> str:
    return str(IPv4Address(_FIRST[by] + number))
