"""The extractive summary: sentences found, the right ones chosen, the same ones always."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from service.runners.builtin import text_summary
from service.runners.builtin.text_summary import FREE_CHARACTERS, MAX_SENTENCES, sentences
from service.runners.models import Done, Failed, RunnerSpec, RunOutcome, RunRequest

TOPIC = (
    "Bees collect nectar from flowers. The weather was mild on Tuesday. "
    "Flowers need bees to carry pollen between flowers. My uncle owns a boat. "
    "Without bees many flowers would bear no fruit."
)


class Summary:
    slug = "text-summary"
    runner = RunnerSpec("builtin", "text-summary")


def run(variant: str = "standard", **inputs: Any) -> RunOutcome:
    return text_summary.run(
        RunRequest(UUID(int=1), Summary(), variant, inputs, (), datetime.now(UTC))
    )


def summary(variant: str = "standard", **inputs: Any) -> str:
    outcome = run(variant, **inputs)
    assert isinstance(outcome, Done)
    return outcome.result


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Dr. Who met J. R. Smith. They talked.", ["Dr. Who met J. R. Smith.", "They talked."]),
        ("Version 3.11 is out. Good.", ["Version 3.11 is out.", "Good."]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("A heading\n\nA text\nover lines.", ["A heading", "A text over lines."]),
        ("Das kostet ca. 5 Euro. Und z.B. nichts.", ["Das kostet ca. 5 Euro.",
                                                    "Und z.B. nichts."]),
        ("Really?! Yes… it is.", ["Really?!", "Yes… it is."]),
        ("... --- !!!", []),
    ],
)  # fmt: skip
def test_sentences(text: str, found: list[str]) -> None:
    assert sentences(text) == found


def test_sentences_that_share_most_with_the_rest_are_chosen_in_order() -> None:
    text = summary(text=TOPIC, sentences=3, style="bullets")
    assert text.splitlines()[2:5] == [
        "- Bees collect nectar from flowers.",
        "- Flowers need bees to carry pollen between flowers.",
        "- Without bees many flowers would bear no fruit.",
    ]
    assert "Keywords: flowers, bees" in text


def test_free_variant_reads_and_gives_less() -> None:
    long = TOPIC + " Filler words stand here." * 200
    text = summary("free", text=long, sentences=10)
    assert text.startswith("Summary (2 of ")
    assert f"the first {FREE_CHARACTERS} of {len(long)} characters" in text
    assert "Keywords" not in text


def test_text_without_words_fails_for_good() -> None:
    outcome = run(text="... 123 !!! " * 5)
    assert isinstance(outcome, Failed)
    assert not outcome.retryable


def test_unrelated_sentences_keep_their_order() -> None:
    assert summary(text="Apples fall. Trains ride. Clouds drift.", sentences=2).splitlines()[2] == (
        "Apples fall. Trains ride."
    )


def test_result_is_the_same_in_every_process() -> None:
    """Python seeds its hashes anew in each process; no set may decide the order of anything."""
    code = (
        "from tests.unit.runners.test_text_summary import TOPIC, summary;"
        "import sys; sys.stdout.write(summary(text=TOPIC * 3, sentences=4))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert seen == {summary(text=TOPIC * 3, sentences=4).encode()}


@pytest.mark.parametrize(
    "text",
    [
        "." * 30_000,
        ". " * 15_000,
        "a. " * 10_000,
        "Ab. " * 7_500,
        "word " * 6_000,
        "x" * 30_000,
        "\n" * 29_000 + "word",
        "-'" * 15_000 + "a",
    ],
)
def test_hostile_text_takes_bounded_time(text: str) -> None:
    started_s = time.perf_counter()
    run(text=text, sentences=10)
    assert time.perf_counter() - started_s < 60  # about a second at most, on an idle machine


def test_number_of_sentences_read_is_bounded() -> None:
    text = " ".join(f"Sentence number {i} is here." for i in range(MAX_SENTENCES + 5))
    assert f"The first {MAX_SENTENCES} of {MAX_SENTENCES + 5} sentences" in summary(text=text)
