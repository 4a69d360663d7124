"""``make capacity`` as a person and a program see it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.capacity.__main__ import main

HERE = Path(__file__).parent
FIXED = ["--coefficients", str(HERE / "coefficients.toml")]


def test_table_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Another one on purpose: look at it, then write it to table.txt."""
    assert main([*FIXED, "plan", "--rate", "100k", "--principals", "50_000", "--jobs", "20"]) == 0
    assert capsys.readouterr().out == (HERE / "table.txt").read_text(encoding="utf-8")


def test_json_says_the_same_as_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*FIXED, "plan", "--rate", "1M", "--principals", "1e6", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main([*FIXED, "plan", "--rate", "1,000,000", "--principals", "1000000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    workers = next(line for line in lines if line.startswith("workers"))
    assert f" {found['workers']} " in workers
    first = lines[lines.index(next(line for line in lines if "what breaks first" in line)) + 1]
    assert found["bottlenecks"][0]["resource"] in first
    assert found["holds"] is False


def test_another_limit_and_mix_count(capsys: pytest.CaptureFixture[str]) -> None:
    load = ["plan", "--rate", "50k", "--jobs", "20", "--pgbouncer"]
    main([*FIXED, *load])
    assert "It does not hold as it is: payment service." in capsys.readouterr().out
    main([*FIXED, *load, "--limit", "payment_calls_per_s=500", "--mix", "health=1"])
    assert "It holds." in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [
        ["plan", "--rate", "10", "--jobs", "11"],
        ["plan", "--limit", "worker_share=2"],
        ["--coefficients", "/nowhere/capacity.toml", "plan"],
    ],
)
def test_what_can_not_be_is_a_line_and_an_exit_code(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(wrong) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("make capacity: ")


@pytest.mark.parametrize(
    "wrong",
    [
        *(["--mix", "denied=1"], ["--limit", "speed=1"], ["--rate", "x"], ["--rate", "nan"]),
        *(["--rate", "k"], ["--paid", "much"], ["--workers", "0"], ["--shards", "1.5"]),
    ],
)
def test_unknown_word_is_named_by_the_parser(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["plan", *wrong])
    said = capsys.readouterr().err.splitlines()[-1]
    assert wrong[1].split("=")[0] in said
    assert "invalid _" not in said


def test_who_has_pgbouncer_is_not_told_to_take_it(capsys: pytest.CaptureFixture[str]) -> None:
    load = ["plan", "--rate", "10M", "--principals", "1M", "--jobs", "5"]
    main([*FIXED, *load])
    assert "PgBouncer" in capsys.readouterr().out
    main([*FIXED, *load, "--pgbouncer"])
    out = capsys.readouterr().out
    assert "PostgreSQL, connections" in out
    assert "PgBouncer" not in out
