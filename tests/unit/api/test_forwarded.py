"""The ``Forwarded`` header (RFC 7239), as proxies write it and as attackers would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.forwarded import MAX_HEADER_BYTES, MAX_HOPS, hops


def seen(*lines: str) -> list[str | None]:
    return [str(hop) if hop else None for hop in hops("forwarded", lines)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("for=192.0.2.60", ["192.0.2.60"]),
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ["192.0.2.60"]),
        ("For=192.0.2.60 ; Proto=http", ["192.0.2.60"]),
        ("proto=http;for=192.0.2.60;", ["192.0.2.60"]),
        ('by="[::1]:80";for="192.0.2.60:8080"', ["192.0.2.60"]),
        ("for=192.0.2.60:8080", ["192.0.2.60"]),
        ('for="[2001:db8:cafe::17]:4711"', ["2001:db8:cafe::17"]),
        ('for="[2001:db8:cafe::17]"', ["2001:db8:cafe::17"]),
        ('for="192.0.2.60:_port"', ["192.0.2.60"]),
        (r'for="192\.0.2.60"', ["192.0.2.60"]),
        ("for=192.0.2.43, for=198.51.100.17", ["198.51.100.17", "192.0.2.43"]),
        ("for=192.0.2.43,for=198.51.100.17;by=10.0.0.1", ["198.51.100.17", "192.0.2.43"]),
        ("  for=192.0.2.43\t,\tfor=198.51.100.17  ", ["198.51.100.17", "192.0.2.43"]),
    ],
)
def test_elements_of_the_standard(line: str, found: list[str]) -> None:
    assert seen(line) == found


@pytest.mark.parametrize(
    "element",
    [
        "for=unknown",
        "for=_hidden",
        'for="_SEVKISEK"',
        "for=",
        'for=""',
        "proto=http",
        "",
        "192.0.2.60",
        "for 192.0.2.60",
        "for = 192.0.2.60",
        'for="192.0.2.60',
        "for=192.0.2.60;for=192.0.2.61",
        'for="192.0.2.60"x',
        'for="[2001:db8::1"',
        "for=2001:db8::1;;=",
        'host="x;for=192.0.2.60"',
        'host="a\\";for=192.0.2.60;x=\\""',
        "xfor=192.0.2.60",
        "for=192.0.2.60 proto=http",
        "for=\x00",
    ],
)
def test_element_that_names_no_single_address_ends_the_chain(element: str) -> None:
    assert seen(f"for=192.0.2.43, {element}, for=10.0.0.2") == ["10.0.0.2", None]


def test_commas_and_quotes_within_quoted_strings_part_nothing() -> None:
    line = r'for=192.0.2.43;host="a,b\",for=1.2.3.4,\\", for=198.51.100.17;host=","'
    assert seen(line) == ["198.51.100.17", "192.0.2.43"]


def test_repeated_lines_are_one_list() -> None:
    assert seen("for=192.0.2.43", "for=198.51.100.17") == ["198.51.100.17", "192.0.2.43"]


@pytest.mark.parametrize(
    "forged",
    ['for="', 'for="198.51.100.1', '"', '\\"', 'x="\\', 'for="1.2.3.4\\", for=1.2.3.4', "for=_x;"],
)
def test_open_quote_of_a_client_cannot_swallow_what_the_proxy_adds(forged: str) -> None:
    """Read from the left, the proxy's own element would be inside the client's string."""
    assert seen(f"{forged}, for=198.51.100.17, for=10.0.0.2")[:2] == ["10.0.0.2", "198.51.100.17"]
    assert seen(forged, "for=198.51.100.17", 'for="10.0.0.2"')[:2] == ["10.0.0.2", "198.51.100.17"]


@given(st.text(max_size=300))
def test_nothing_a_client_writes_moves_what_proxies_added(forged: str) -> None:
    line = f'{forged}, for="198.51.100.17:5";host="a\\"b,c";proto=https, for=10.0.0.2'
    assert seen(line)[:2] == ["10.0.0.2", "198.51.100.17"]


def test_no_more_hops_are_read_than_a_chain_can_have() -> None:
    assert len(seen(",".join(["for=10.0.0.2"] * 100))) == MAX_HOPS


def test_what_the_limit_cuts_in_two_is_not_read() -> None:
    last = ",for=10.0.0.2"
    padding = " " * (MAX_HEADER_BYTES - len("for=1.2.3.4") - len(last))
    assert seen(f"xfor=1.2.3.4{padding}{last}") == ["10.0.0.2"]


@pytest.mark.parametrize(
    "text",
    [
        '"' * 4000,
        "\\" * 4000,
        '\\"' * 2000,
        "a=b;" * 1000,
        "," * 4000,
        "a=b" + ";  " * 1000 + "!",
        "a" * 4000 + "=",
        'a="' + "\\\\" * 1000,
        "for=" * 1000,
        " " * 4000,
    ],
)
def test_garbage_is_refused_in_one_pass(text: str) -> None:
    """A pattern that goes back over it again and again would not come to an end here."""
    assert seen(text) in ([None], [])
    assert seen(f"{text}, for=10.0.0.2")[0] == "10.0.0.2"
