"""Who may see and do what operators do: whoever sits at this machine, or shows the admin token.

Free is only what certainly comes from this machine: a listener bound to loopback, a peer on
loopback, a loopback name in ``Host`` (or a page elsewhere could reach us under a name of its own
that it lets point here), and no proxy between. All else shows ``Authorization: Bearer`` with
TOLLGATE_ADMIN__TOKEN; nothing that a browser sends by itself, so no other page can act with it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from service.api import keys
from service.api.problems import Problem

if TYPE_CHECKING:
    from service.settings import AdminSettings, ServerSettings

#: Wrong tokens from one address; then it waits, with a right one too.
MOST_WRONG = 5
WRONG_WINDOW_S = 60.0
#: Addresses remembered for that.
MOST_ADDRESSES = 1000
_FORWARDING = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")

_WRONG = "This is not the TOLLGATE_ADMIN__TOKEN of this service."
_NEEDED = "Send TOLLGATE_ADMIN__TOKEN as Authorization: Bearer."
OFF = (
    "Operations are off here: this is not a request from this machine to a loopback listener, and"
    " TOLLGATE_ADMIN__TOKEN is not set."
)


class Access:
    def __init__(
        self,
        server: ServerSettings,
        admin: AdminSettings,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loopback = is_loopback(server.internal_host)
        self._digest = _digest(admin.token.get_secret_value()) if admin.token else None
        self._wrong = _Wrong(clock)

    def free(self, request: web.Request) -> bool:
        """Does this come from this machine, as far as can be told?"""
        return (
            self._loopback
            and is_loopback(_peer(request))
            and is_loopback(_name(request.host))
            and not any(field in request.headers for field in _FORWARDING)
        )

    @property
    def has_token(self) -> bool:
        return self._digest is not None

    def refusal(self, request: web.Request) -> Problem | None:
        """Why this may not be seen or done; None where it may."""
        if _is_foreign(request):
            return Problem(
                status=403,
                code="foreign-origin",
                title="Another page may not call this",
                detail="The request comes from a page of another origin.",
            )
        if self.free(request):
            return None
        if self._digest is None:
            return Problem(status=403, code="operations-off", title="Off here", detail=OFF)
        return self._token_refusal(request, self._digest)

    def _token_refusal(self, request: web.Request, digest: bytes) -> Problem | None:
        who = request[keys.RECORD].client.principal
        if (wait_s := self._wrong.wait_s(who)) > 0:
            return Problem(
                status=429,
                code="too-many-wrong-tokens",
                title="Too many wrong tokens",
                detail=f"Wait {wait_s:.0f} s; then try once more.",
                retryable=True,
                retry_after_s=max(1, round(wait_s)),
            )
        scheme, _, shown = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(_digest(shown.strip()), digest):
            self._wrong.forget(who)
            return None
        if shown:
            self._wrong.note(who)
        return Problem(
            status=401,
            code="token-needed",
            title="The token is wrong" if shown else "The admin token is needed",
            detail=_WRONG if shown else _NEEDED,
            headers={hdrs.WWW_AUTHENTICATE: 'Bearer realm="operations"'},
        )


class _Wrong:
    """Wrong tokens by address, in bounded memory."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        #: Number and end of the window; the address seen last is last.
        self._by_address: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, who: str) -> float:
        number, until_s = self._by_address.get(who, (0, 0.0))
        return until_s - self._clock() if number >= MOST_WRONG else 0.0

    def note(self, who: str) -> None:
        now_s = self._clock()
        number, until_s = self._by_address.pop(who, (0, 0.0))
        if until_s <= now_s:
            number = 0
        self._by_address[who] = (number + 1, now_s + WRONG_WINDOW_S)
        while len(self._by_address) > MOST_ADDRESSES:
            self._by_address.popitem(last=False)

    def forget(self, who: str) -> None:
        self._by_address.pop(who, None)


def is_loopback(host: str) -> bool:
    """``localhost`` or an address of the loopback network; an IPv4 one also as IPv6 writes it."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _peer(request: web.Request) -> str:
    """The address at the other end of the socket (``remote`` is hidden in the plain way)."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return str(peer[0]) if peer else ""


def _name(host: str) -> str:
    """The name or address in a Host field, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_foreign(request: web.Request) -> bool:
    """Did a browser send this for a page that is not ours? What is no browser says neither."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        return True
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != request.host.lower()
    except ValueError:  # no address at all: no browser sends that for a page of ours
        return True


def _digest(token: str) -> bytes:
    """Of one length, so that comparing tells nothing of the token's."""
    return hashlib.blake2b(token.encode("utf-8", "surrogatepass"), digest_size=32).digest()
