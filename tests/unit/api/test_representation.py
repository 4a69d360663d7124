"""A document and its codings: the same from every worker, at any time."""

from __future__ import annotations

import gzip

import pytest

from service.api.representation import Representation

BODY = b'{"text":"' + b"Bees make honey. " * 100 + b'"}'


def test_compressed_bytes_and_their_tag_do_not_hang_on_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []
    for now_s in (1_000_000_000.0, 2_000_000_000.0):
        monkeypatch.setattr("time.time", lambda now_s=now_s: now_s)
        made.append(Representation(BODY).gzipped)
    assert made[0].body == made[1].body
    assert made[0].tag == made[1].tag
    assert gzip.decompress(made[0].body) == BODY


def test_each_coding_has_a_tag_of_its_own_made_once() -> None:
    document = Representation(BODY)
    assert document.gzipped.tag != document.plain.tag
    assert document.gzipped is document.gzipped
