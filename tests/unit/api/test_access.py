"""Who may see and do what operators do."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from pydantic import SecretStr

from service.admission.rulebook import Client
from service.api import keys
from service.api.access import MOST_ADDRESSES, MOST_WRONG, WRONG_WINDOW_S, Access, is_loopback
from service.api.keys import RequestRecord
from service.settings import AdminSettings, ServerSettings

TOKEN = "right-token-of-some-length"
Headers = dict[str, str]


class Transport:
    def __init__(self, peer: str) -> None:
        self._peer = peer

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self._peer, 50_000) if name == "peername" else default


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def request(
    headers: Headers | None = None,
    *,
    peer: str = "127.0.0.1",
    host: str = "127.0.0.1:8090",
    method: str = "POST",
) -> web.Request:
    made = make_mocked_request(
        method, "/ops/api/v1/now", {"Host": host, **(headers or {})}, transport=Transport(peer)
    )
    made[keys.RECORD] = RequestRecord("id", Client(peer, f"ip:{peer}"), 0.0)
    return made


def access(internal_host: str = "127.0.0.1", token: str | None = None, **more: Any) -> Access:
    admin = AdminSettings(token=SecretStr(token) if token else None)
    return Access(ServerSettings(internal_host=internal_host), admin, **more)


def bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


def code(guard: Access, asked: web.Request) -> str | None:
    refused = guard.refusal(asked)
    return None if refused is None else refused.code


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True), ("LOCALHOST.", True), ("127.0.0.1", True), ("127.8.9.1", True),
        ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False),  # noqa: S104
        ("10.0.0.1", False), ("localhost.evil.example", False), ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)  # fmt: skip
def test_loopback_is_known(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize("host", ["127.0.0.1:8090", "localhost:8090", "[::1]:8090", "localhost"])
def test_this_machine_needs_no_token(host: str) -> None:
    assert code(access(), request(host=host)) is None
    assert code(access("localhost", TOKEN), request(host=host)) is None


@pytest.mark.parametrize(
    ("internal_host", "how"),
    [
        ("0.0.0.0", {}),  # noqa: S104
        ("::", {"peer": "::1"}),
        ("10.0.0.5", {"peer": "10.0.0.9", "host": "10.0.0.5:8090"}),
        ("127.0.0.1", {"peer": "10.0.0.9"}),
        ("127.0.0.1", {"host": "evil.example:8090"}),
        ("127.0.0.1", {"host": "evil.example"}),
        ("127.0.0.1", {"headers": {"X-Forwarded-For": "192.0.2.1"}}),
        ("127.0.0.1", {"headers": {"Forwarded": "for=192.0.2.1"}}),
    ],
)
def test_all_else_needs_the_token(internal_host: str, how: dict[str, Any]) -> None:
    assert code(access(internal_host), request(**how)) == "operations-off"
    guard = access(internal_host, TOKEN)
    assert code(guard, request(**how)) == "token-needed"
    headers = how.get("headers", {})
    assert code(guard, request(**{**how, "headers": {**headers, **bearer("wrong")}})) == (
        "token-needed"
    )
    assert code(guard, request(**{**how, "headers": {**headers, **bearer(TOKEN)}})) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Bearer {TOKEN[:-1]}"},
        {"Authorization": f"Bearer {TOKEN.upper()}"},
        {"X-API-Key": TOKEN},
        {"Cookie": f"token={TOKEN}"},
    ],
)
def test_nothing_but_the_token_itself_will_do(headers: Headers) -> None:
    assert code(access("0.0.0.0", TOKEN), request(headers)) == "token-needed"  # noqa: S104


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "http://\u2100"},
        {"Origin": "http://127.0.0.1:8000"},
        {"Origin": "http://localhost:8090"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_page_of_another_origin_is_refused_also_from_this_machine(headers: Headers) -> None:
    assert code(access(), request(headers)) == "foreign-origin"
    with_token = {**headers, **bearer(TOKEN)}
    assert code(access("0.0.0.0", TOKEN), request(with_token)) == "foreign-origin"  # noqa: S104


def test_our_own_page_and_programs_are_let_in() -> None:
    own = {"Origin": "http://127.0.0.1:8090", "Sec-Fetch-Site": "same-origin"}
    assert code(access(), request(own)) is None
    assert code(access(), request({"Sec-Fetch-Site": "none"})) is None
    assert code(access(), request()) is None


def test_wrong_tokens_are_limited_and_a_right_one_waits_too() -> None:
    clock = Clock()
    guard = access("0.0.0.0", TOKEN, clock=clock)  # noqa: S104
    for _ in range(MOST_WRONG):
        assert code(guard, request(bearer("wrong"), peer="192.0.2.1")) == "token-needed"
    refused = guard.refusal(request(bearer(TOKEN), peer="192.0.2.1"))
    assert refused is not None
    assert (refused.status, refused.retry_after_s) == (429, round(WRONG_WINDOW_S))
    assert code(guard, request(bearer(TOKEN), peer="192.0.2.2")) is None
    clock.now_s += WRONG_WINDOW_S
    assert code(guard, request(bearer(TOKEN), peer="192.0.2.1")) is None


def test_right_token_forgives_the_wrong_ones_and_none_shown_is_none_wrong() -> None:
    guard = access("0.0.0.0", TOKEN)  # noqa: S104
    for _ in range(3):
        for _ in range(MOST_WRONG - 1):
            assert code(guard, request(bearer("wrong"))) == "token-needed"
        assert code(guard, request(bearer(TOKEN))) is None
    for _ in range(MOST_WRONG * 2):
        assert code(guard, request()) == "token-needed"
    assert code(guard, request(bearer(TOKEN))) is None


def test_addresses_with_wrong_tokens_are_bounded() -> None:
    guard = access("0.0.0.0", TOKEN)  # noqa: S104
    for number in range(MOST_ADDRESSES + 500):
        guard.refusal(request(bearer("wrong"), peer=f"10.0.{number // 256}.{number % 256}"))
    assert len(guard._wrong._by_address) == MOST_ADDRESSES
