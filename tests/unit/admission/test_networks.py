from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission.networks import Networks, parse_address

ADDRESSES = st.ip_addresses()
CIDRS = st.lists(
    ADDRESSES.flatmap(
        lambda address: st.integers(0, address.max_prefixlen).map(
            lambda bits: str(ip_network(f"{address}/{bits}", strict=False))
        )
    ),
    max_size=8,
)


@given(CIDRS, ADDRESSES)
def test_an_address_is_in_the_networks_that_the_standard_library_finds_it_in(
    cidrs: list[str], address: object
) -> None:
    seen = ip_address(str(address))
    expected = any(
        seen.version == network.version and seen in network for network in map(ip_network, cidrs)
    )
    assert (seen in Networks(cidrs)) is expected


@given(CIDRS.filter(bool), st.data())
def test_edges_of_a_network_are_inside(cidrs: list[str], data: st.DataObject) -> None:
    network = ip_network(data.draw(st.sampled_from(cidrs)))
    assert network.network_address in Networks(cidrs)
    assert network.broadcast_address in Networks(cidrs)


@pytest.mark.parametrize("text", ["", "unknown", "1.2.3", "1" * 65, "::1%" + "e" * 100, "\x00"])
def test_what_is_no_address_is_in_no_network(text: str) -> None:
    assert text not in Networks(["0.0.0.0/0", "::/0"])
    assert parse_address(text) is None


def test_a_mapped_address_is_the_ipv4_address_it_stands_for() -> None:
    assert "::ffff:10.0.0.1" in Networks(["10.0.0.0/8"])
    assert "::ffff:10.0.0.1" not in Networks(["::/0"])


def test_none_and_nothing() -> None:
    assert not Networks()
    assert None not in Networks(["::/0"])
    assert Networks(["10.1.2.3/8"]) == Networks(["10.0.0.0/8"]) != Networks()
