from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.fleet import balancer
from scripts.load import __main__ as program
from scripts.load.fleet import TargetRefused, named


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://localhost:1", "127.0.0.2:1", "http://[::1]:1/"]
)
def test_what_runs_on_this_machine_may_be_loaded(url: str) -> None:
    assert named(url, remote=False).port == 1


@pytest.mark.parametrize(
    "url",
    [
        *("http://192.0.2.1:1", "http://shop.example", "10.0.0.1:80", "http://0.0.0.0:80"),
        *("http://localhost.shop.example", "http://[::ffff:192.0.2.1]:1"),
    ],
)
def test_another_machine_only_if_that_is_said(url: str) -> None:
    with pytest.raises(TargetRefused, match="REMOTE=yes"):
        named(url, remote=False)

    assert named(url, remote=True).host in url


@pytest.mark.parametrize(
    "url",
    [
        *("https://127.0.0.1", "http://127.0.0.1/api", "ftp://x", ""),
        *("http://[::1", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://127.0.0.1:0"),
        *("http://127.0.0.1@x:1", "http://me:secret@127.0.0.1", "http://127.0.0.1?x=1"),
    ],
)
def test_what_is_no_address_of_a_service_is_told_so(url: str) -> None:
    with pytest.raises(TargetRefused, match="no address of the form"):
        named(url, remote=True)


def test_where_there_is_no_nginx_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(balancer, "_ADMINISTRATORS", ())
    monkeypatch.setattr(program, "take_stop_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["load", "--out", str(tmp_path)])

    assert program.main() == program.EXIT_MISSING
    assert "apt-get install -y nginx" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [["--rate", "many"], ["--duration", "0"], ["--replicas", "1.5"], ["--seed", "x"]],
)
def test_what_is_no_number_is_named_and_what_it_should_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["load", *arguments])

    with pytest.raises(SystemExit, match="2"):
        program.main()
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {arguments[0]}: {arguments[1]!r} is not a" in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--scenario", "brows"], "no scenario brows"),
        (["--scenario", "wrk", "--rate", "9"], "a rate means nothing"),
        (["--scenario", "sell", "--target", "127.0.0.1:1"], "sell needs the sandbox"),
        (["--target", "192.0.2.1:1"], "REMOTE=yes"),
        (["--target", "127.0.0.1:1"], "nobody answers"),
        (["--baseline", "/nowhere.json"], "baseline"),
        (["--thresholds", "/nowhere.toml"], "can not be read"),
    ],
)
def test_a_wrong_call_is_told_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.setattr(program, "take_stop_signals", lambda: None)
    monkeypatch.setattr(sys, "argv", ["load", *arguments])

    assert program.main() == program.EXIT_USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
