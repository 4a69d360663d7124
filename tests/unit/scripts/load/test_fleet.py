from __future__ import annotations

import pytest

from scripts.load.fleet import TargetRefused, named


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://localhost:1", "127.0.0.2:1", "http://[::1]:1/"]
)
def test_what_runs_on_this_machine_may_be_loaded(url: str) -> None:
    assert named(url, remote=False).port == 1


@pytest.mark.parametrize("url", ["http://192.0.2.1:1", "http://shop.example", "10.0.0.1:80"])
def test_another_machine_only_if_that_is_said(url: str) -> None:
    with pytest.raises(TargetRefused, match="REMOTE=yes"):
        named(url, remote=False)

    assert named(url, remote=True).host in url


@pytest.mark.parametrize("url", ["https://127.0.0.1", "http://127.0.0.1/api", "ftp://x", ""])
def test_what_is_no_address_of_a_service_is_told_so(url: str) -> None:
    with pytest.raises(TargetRefused, match="no address of the form"):
        named(url, remote=True)
