"""Accept-Encoding by the rules of RFC 9110, 12.5.3: what may be sent, and what is liked best."""

from __future__ import annotations

import pytest

from service.api.codings import ANYTHING, Wanted, wanted

GZIP_FIRST = Wanted(gzip=True, identity=True, gzip_first=True)
PLAIN_FIRST = Wanted(gzip=True, identity=True, gzip_first=False)
ONLY_PLAIN = Wanted(gzip=False, identity=True, gzip_first=False)
ONLY_GZIP = Wanted(gzip=True, identity=False, gzip_first=True)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (None, ONLY_PLAIN),
        ("", ONLY_PLAIN),
        ("gzip", GZIP_FIRST),
        ("GZip", GZIP_FIRST),
        ("x-gzip", GZIP_FIRST),
        ("gzip, deflate, br, zstd", GZIP_FIRST),
        ("br;q=1.0, gzip;q=0.2", GZIP_FIRST),
        ("br", ONLY_PLAIN),
        ("identity", ONLY_PLAIN),
        ("*", GZIP_FIRST),
        ("*;q=0.5", GZIP_FIRST),
        ("gzip;q=0", ONLY_PLAIN),
        ("gzip;q=0.000, *", ONLY_PLAIN),
        ("gzip;q=0.5, identity", PLAIN_FIRST),
        ("gzip;q=0.5, identity;q=0.5", GZIP_FIRST),
        ("identity;q=0.5, gzip;q=0.499", PLAIN_FIRST),
        ("identity;q=0.5, *", GZIP_FIRST),
        ("gzip, identity;q=0", ONLY_GZIP),
        ("gzip, *;q=0", ONLY_GZIP),
        ("*, identity;q=0", ONLY_GZIP),
        ("identity, *;q=0", ONLY_PLAIN),
        (" gzip \t; q=0.7 ,identity ;Q=0 ", ONLY_GZIP),
        (",,gzip,", GZIP_FIRST),
        # No element of a list: passed over.
        ("gzip;q=2", ONLY_PLAIN),
        ("gzip;q=0.1234", ONLY_PLAIN),
        ("gzip;level=9", ONLY_PLAIN),
        ("g zip", ONLY_PLAIN),
        ("gzip" + "," * 300, GZIP_FIRST),
    ],
)
def test_what_is_wanted(field: str | None, expected: Wanted) -> None:
    assert wanted(field) == expected


@pytest.mark.parametrize("field", ["*;q=0", "identity;q=0", "gzip;q=0, identity;q=0", "br, *;q=0"])
def test_who_accepts_nothing_we_have_gets_it_uncoded(field: str) -> None:
    assert wanted(field) == ANYTHING
