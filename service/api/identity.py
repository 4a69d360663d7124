"""Who is asking: from the socket's peer, one forwarding header and the API key to a ``Client``.

The header is believed only as far as it was written by trusted proxies: it is walked from the
right, over the hops that are ours, to the first address that is not. Nothing a client can put into
a request moves that point. Who shows a key that is not known is counted with all others who do, so
nobody can mint identities or hide behind another's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, ip_network
from typing import TYPE_CHECKING

from aiohttp import hdrs
from multidict import istr

from service.admission.networks import Address, Networks, parse_address
from service.admission.rulebook import UNKNOWN_KEY, Client
from service.api import forwarded

if TYPE_CHECKING:
    from multidict import MultiMapping

    from service.admission.rules import Rules

API_KEY = istr("X-API-Key")
#: The smallest network one IPv6 customer is given: its 2^64 addresses are one client.
IPV6_CLIENT_BITS = 64
#: Clients kept ready, and the longest header for which it is worth the memory.
MOST_CLIENTS = 4096
_LONGEST_KEPT = 256
_NO_ADDRESS = Client("unknown", "peer:unknown")


class ClientIdentity:
    """Tells the client of each request.

    ``trusted_proxies`` are CIDRs, none by default; ``scheme`` names the one header they write.
    ``rules`` know the API keys; without any, keys are not looked at.
    """

    def __init__(
        self,
        trusted_proxies: Sequence[str] = (),
        *,
        scheme: forwarded.Scheme = "x-forwarded-for",
        rules: Rules | None = None,
    ) -> None:
        self._trusted = Networks(trusted_proxies)
        self._scheme = scheme
        self._header = istr(scheme)
        self._rules = rules
        self._of_chain = lru_cache(MOST_CLIENTS)(self._walk)

    def of(self, peer: str | None, headers: MultiMapping[str]) -> Client:
        """The client behind ``peer`` that sent these header fields."""
        lines: Sequence[str] = headers.getall(self._header, ()) if self._trusted else ()
        if not lines or sum(map(len, lines)) <= _LONGEST_KEPT:
            client = self._of_chain(peer, *lines)
        else:
            client = self._walk(peer, *lines)
        if self._rules is None or not (ring := self._rules.current.keys):
            return client
        key = _presented_key(headers)
        if key is None:
            return client
        name = ring.name_of(key)
        if name is None:
            return Client(client.address, f"key:{UNKNOWN_KEY}", origin=client.principal)
        return Client(client.address, f"key:{name}", name)

    def _walk(self, peer: str | None, *lines: str) -> Client:
        address = parse_address(peer or "")
        if address is None:
            return _NO_ADDRESS
        if lines and address in self._trusted:
            for hop in forwarded.hops(self._scheme, lines):
                if hop is None:  # unreadable: the last hop we know is all there is
                    break
                address = hop
                if hop not in self._trusted:
                    break
        return Client(str(address), principal_of(address))


def principal_of(address: Address) -> str:
    """The principal of clients without a key: their address, an IPv6 one by its /64."""
    if isinstance(address, IPv4Address):
        return f"ip:{address}"
    return f"ip:{ip_network((int(address), IPV6_CLIENT_BITS), strict=False)}"


def _presented_key(headers: MultiMapping[str]) -> str | None:
    """The key in ``X-API-Key``, else in ``Authorization: Bearer``; None if none is shown."""
    key = headers.get(API_KEY)
    if key is not None:
        return key
    scheme, _, credentials = headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else None
