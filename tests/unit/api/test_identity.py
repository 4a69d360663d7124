"""Who is asking: only what trusted proxies wrote is believed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from service.admission.rulebook import Client
from service.api.forwarded import MAX_HEADER_BYTES, MAX_HOPS
from service.api.identity import ClientIdentity

PROXIES = ("10.0.0.0/8", "fd00::/8")


def headers(*lines: str) -> CIMultiDict[str]:
    return CIMultiDict(("X-Forwarded-For", line) for line in lines)


def address(peer: str | None, *lines: str, trusted: tuple[str, ...] = PROXIES) -> str:
    return ClientIdentity(trusted).of(peer, headers(*lines)).address


def principal(peer: str, *lines: str) -> str:
    return ClientIdentity(PROXIES).of(peer, headers(*lines)).principal


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    assert address("10.0.0.1", "198.51.100.9", trusted=()) == "10.0.0.1"


def test_header_of_an_untrusted_peer_is_not_read() -> None:
    assert address("203.0.113.5", "198.51.100.9") == "203.0.113.5"


def test_trusted_peer_names_the_client() -> None:
    assert address("10.0.0.1", "198.51.100.9") == "198.51.100.9"


def test_rightmost_untrusted_hop_wins_over_what_the_client_wrote() -> None:
    assert address("10.0.0.1", "1.2.3.4, 198.51.100.9, 10.0.0.2") == "198.51.100.9"


def test_repeated_lines_are_one_list() -> None:
    assert address("10.0.0.1", "1.2.3.4", "198.51.100.9", "10.0.0.2") == "198.51.100.9"


def test_all_hops_trusted_gives_the_leftmost() -> None:
    assert address("10.0.0.1", "10.0.0.3, 10.0.0.2") == "10.0.0.3"


@pytest.mark.parametrize(
    "hop", ["unknown", "_hidden", "", "1.2.3", "nonsense", "[::1", "\x00", "٣"]
)
def test_unreadable_hop_stops_at_the_last_one_known(hop: str) -> None:
    assert address("10.0.0.1", f"198.51.100.9, {hop}, 10.0.0.2") == "10.0.0.2"


@pytest.mark.parametrize(
    ("hop", "client"),
    [
        ("198.51.100.9:4711", "198.51.100.9"),
        ('"198.51.100.9"', "198.51.100.9"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('"[2001:db8::1]"', "2001:db8::1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::ffff:198.51.100.9", "198.51.100.9"),
    ],
)
def test_spellings_of_an_address(hop: str, client: str) -> None:
    assert address("10.0.0.1", hop) == client


def test_mapped_peer_is_matched_as_ipv4() -> None:
    assert address("::ffff:10.0.0.1", "198.51.100.9") == "198.51.100.9"


def test_ipv6_addresses_of_one_customer_are_one_principal() -> None:
    assert principal("2001:db8:1:2::1") == principal("2001:db8:1:2:ffff::9")
    assert principal("2001:db8:1:2::1") != principal("2001:db8:1:3::1")


def test_ipv4_addresses_are_each_their_own_principal() -> None:
    assert principal("198.51.100.9") != principal("198.51.100.8")


@pytest.mark.parametrize("peer", [None, "", "/run/tollgate.sock"])
def test_peer_without_address_is_one_client(peer: str | None) -> None:
    assert ClientIdentity(PROXIES).of(peer, headers("1.2.3.4")) == Client("unknown", "peer:unknown")


def test_no_more_hops_are_walked_than_a_chain_can_have() -> None:
    chain = ["198.51.100.9", *["10.0.0.2"] * MAX_HOPS]
    assert address("10.0.0.1", ",".join(chain)) == "10.0.0.2"


def test_a_header_cut_by_the_limit_does_not_yield_half_an_address() -> None:
    last = ",10.0.0.2"
    padding = " " * (MAX_HEADER_BYTES - len("8.51.100.77") - len(last))
    assert address("10.0.0.1", f"198.51.100.77{padding}{last}") == "10.0.0.2"


@given(st.text(max_size=300))
def test_nothing_a_client_writes_moves_its_identity(forged: str) -> None:
    seen = address("10.0.0.1", f"{forged},198.51.100.9,10.0.0.2".replace("\n", " "))
    assert seen == "198.51.100.9"


def test_only_the_one_header_of_the_proxies_is_read() -> None:
    both = CIMultiDict(
        [("X-Forwarded-For", "198.51.100.1"), ("Forwarded", "for=198.51.100.2"), ("X-Real-IP", "3")]
    )
    by_list = ClientIdentity(PROXIES).of("10.0.0.1", both)
    by_element = ClientIdentity(PROXIES, scheme="forwarded").of("10.0.0.1", both)
    assert (by_list.address, by_element.address) == ("198.51.100.1", "198.51.100.2")
    only_other = CIMultiDict([("X-Forwarded-For", "198.51.100.1")])
    assert ClientIdentity(PROXIES, scheme="forwarded").of("10.0.0.1", only_other).address == (
        "10.0.0.1"
    )


def test_forwarded_of_an_untrusted_peer_is_not_read() -> None:
    identity = ClientIdentity(PROXIES, scheme="forwarded")
    forged = CIMultiDict([("Forwarded", "for=198.51.100.2")])
    assert identity.of("203.0.113.5", forged).address == "203.0.113.5"
