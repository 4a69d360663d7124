"""docs/operations.md names only what there is: commands, files, variables, settings, events."""

from __future__ import annotations

import re
import shlex

import pytest

from service.settings import PREFIX, Settings
from service.settings.secret_files import SUFFIX, secret_variables
from tests.support.collectors import declared
from tests.support.deployment import ROOT, absent, accepts

PAGE = (ROOT / "docs/operations.md").read_text()
BLOCKS = re.findall(r"^( *)```sh\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
#: What shells make of them: continued lines are one, and what follows ``#`` is for the reader.
LINES = [
    line.strip()
    for _, block in BLOCKS
    for line in re.sub(r"\\\n", " ", block).splitlines()
    if line.strip()
]
SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
SECTIONS = {
    name: set(field.annotation.model_fields)
    for name, field in Settings.model_fields.items()
    if field.annotation is not None and hasattr(field.annotation, "model_fields")
}


def commands(program: str) -> list[list[str]]:
    """Its calls: at the beginning of lines of shell and of words in the text."""
    found = [shlex.split(line, comments=True) for line in LINES if f"{program} " in line]
    found += [span.split() for span in SPANS if span.startswith((f"{program} ", PREFIX))]
    calls = []
    for words in found:
        while words and "=" in words[0]:  # variables that are set for it
            del words[0]
        if words[:1] == [program]:
            calls.append(words[1:])
    return calls


def variables() -> set[str]:
    known = {
        f"{PREFIX}{section}__{field}".upper() for section, names in SECTIONS.items()
        for field in names
    }  # fmt: skip
    return known | {f"{name}{SUFFIX}" for name in secret_variables(PREFIX, Settings.model_fields)}


def test_the_page_has_commands() -> None:
    assert len(LINES) > 30
    assert len(commands("make")) > 6
    assert len(commands("tollgate")) > 5


def test_make_has_the_targets() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for words in commands("make"):
        named, *more = words
        assert named in targets, words
        assert all(re.fullmatch(r"[A-Z]+=\d+", word) for word in more), words


def test_tollgate_has_the_commands() -> None:
    for words in commands("tollgate"):
        assert accepts(words), words


def test_variables_are_settings() -> None:
    named = set(re.findall(r"\bTOLLGATE_[A-Z_]+__[A-Z_]+\b", PAGE))
    assert len(named) > 8
    assert named - variables() == set()


def test_settings_are_settings() -> None:
    named = re.findall(rf"`({'|'.join(SECTIONS)})\.([a-z_]+)`", PAGE)
    assert len(named) > 4
    assert [(s, n) for s, n in named if n not in SECTIONS[s]] == []


def test_files_are_in_the_tree() -> None:
    named = re.findall(r"\b((?:config|docs|scripts|service|tests)/[\w./-]*\w)", PAGE)
    assert len(named) > 10
    assert absent(named) == []


def test_links_lead_somewhere() -> None:
    for file, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", PAGE):
        target = (ROOT / "docs" / file) if file else ROOT / "docs/operations.md"
        assert target.exists(), file
        if anchor:
            assert anchor in anchors(target.read_text()), (file, anchor)


def anchors(text: str) -> set[str]:
    titles = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("kind", ["events", "metrics"])
def test_what_is_looked_for_is_logged_and_counted(kind: str) -> None:
    if kind == "events":
        known = set(re.findall(r"(?m)^\| `([a-z_]+)` \|", (ROOT / "docs/logs.md").read_text()))
        named = {"connection_budget", "database_is_newer", "database_is_older"}
    else:
        known = {name for each in declared() for name in each.series()}
        named = set(re.findall(r"`(tollgate_[a-z_]+)`", PAGE))
        assert named
    assert {name for name in named if f"`{name}`" in PAGE} == named
    assert named - known == set()
