"""Who is asking: from the socket's peer and ``X-Forwarded-For`` to a ``Client``. Pure.

The header is believed only as far as it was written by trusted proxies: it is walked from the
right, over the hops that are ours, to the first address that is not. Nothing a client can put into
the header moves that point, so nobody can mint identities or hide behind another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

#: No honest chain is longer; what stands further left is not looked at.
MAX_HOPS = 16
MAX_HEADER_BYTES = 4096
#: The smallest network one IPv6 customer is given: its 2^64 addresses are one client.
IPV6_CLIENT_BITS = 64

Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Client:
    """Who is asking: the address, for people, and the principal that limits and keys count."""

    address: str
    principal: str


class ClientIdentity:
    """Tells the client of each request; ``trusted_proxies`` are CIDRs, none by default."""

    def __init__(self, trusted_proxies: Sequence[str] = ()) -> None:
        self._trusted: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(text, strict=False) for text in trusted_proxies
        )

    def of(self, peer: str | None, forwarded_for: Sequence[str] = ()) -> Client:
        """The client behind ``peer``; ``forwarded_for`` holds the header's lines as received."""
        address = _parse(peer or "")
        if address is None:
            return Client("unknown", "peer:unknown")
        if forwarded_for and self._is_trusted(address):
            address = self._walk(address, forwarded_for)
        return Client(str(address), _principal(address))

    def _walk(self, address: Address, lines: Sequence[str]) -> Address:
        for text in _hops(lines):
            hop = _parse(text)
            if hop is None:  # unknown, obfuscated or garbage: the last hop we know is all there is
                return address
            address = hop
            if not self._is_trusted(hop):
                return hop
        return address

    def _is_trusted(self, address: Address) -> bool:
        return any(
            address.version == network.version and address in network for network in self._trusted
        )


def _hops(lines: Sequence[str]) -> list[str]:
    """The entries, nearest first; repeated header lines are one list (RFC 9110, 5.3)."""
    whole = ",".join(lines)
    tail = whole[-MAX_HEADER_BYTES:]
    hops = tail.split(",")
    if len(tail) < len(whole):
        hops = hops[1:]  # cut in two by the limit
    return hops[::-1][:MAX_HOPS]


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address | None:
    """An address in any of the spellings proxies use: quoted, bracketed, with port or zone."""
    text = text.strip().strip('"').strip()
    if text.startswith("["):
        text, bracket, _port = text[1:].partition("]")
        if not bracket:
            return None
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    text = text.partition("%")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


def _principal(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return f"ip:{address}"
    network = ip_network((int(address), IPV6_CLIENT_BITS), strict=False)
    return f"ip:{network}"
