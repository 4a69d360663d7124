"""Secrets that files hold and variables name."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from service.cli import main
from service.errors import ConfigurationError
from service.settings import PREFIX, Settings, load
from service.settings.secret_files import MAX_BYTES, secret_variables

ROOT = Path(__file__).parents[3]
SECRETS = {
    "TOLLGATE_REDIS__URL",
    "TOLLGATE_DATABASE__URL",
    "TOLLGATE_DATABASE__LISTEN_URL",
    "TOLLGATE_PAYMENT__API_KEY",
    "TOLLGATE_ADMIN__TOKEN",
    "TOLLGATE_ADMIN__KEY_SECRET",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def name_file(monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes, variable: str) -> Path:
    file = folder / "secret"
    file.write_bytes(content)
    monkeypatch.setenv(variable, str(file))
    return file


def fault() -> str:
    with pytest.raises(ConfigurationError) as caught:
        load()
    return caught.value.message


def test_every_secret_of_the_tree_may_come_from_a_file() -> None:
    assert set(secret_variables(PREFIX, Settings.model_fields)) == SECRETS
    text = (ROOT / "docs/configuration.md").read_text()
    assert set(re.findall(r"`(TOLLGATE_[A-Z_]+)_FILE`", text)) >= SECRETS


@pytest.mark.parametrize("secret", sorted(SECRETS))
def test_file_counts_as_the_variable_would(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, secret: str
) -> None:
    name_file(monkeypatch, tmp_path, b"sixteen-characters-and-more\n", f"{secret}_FILE")
    section, name = secret.removeprefix(PREFIX).lower().split("__")
    value = getattr(getattr(load().settings, section), name)
    assert value.get_secret_value() == "sixteen-characters-and-more"
    assert "sixteen" not in repr(value)


def test_file_wins_over_the_main_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    main_file = tmp_path / "tollgate.toml"
    main_file.write_text('[admin]\ntoken = "of-the-main-file"\n')
    name_file(monkeypatch, tmp_path, b"of-the-secret", "TOLLGATE_ADMIN__TOKEN_FILE")
    token = load(main_file).settings.admin.token
    assert token is not None
    assert token.get_secret_value() == "of-the-secret"


def test_empty_name_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_ADMIN__TOKEN_FILE", "")
    assert load().settings.admin.token is None


def test_both_are_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    name_file(monkeypatch, tmp_path, b"one", "TOLLGATE_ADMIN__TOKEN_FILE")
    monkeypatch.setenv("TOLLGATE_ADMIN__TOKEN", "another")
    assert fault() == (
        "TOLLGATE_ADMIN__TOKEN and TOLLGATE_ADMIN__TOKEN_FILE are both set: give one of them"
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b" \n", "is empty"),
        (b"\xff\xfe\xfd", "is not text"),
        (b"x" * (MAX_BYTES + 1), "is too large for a secret"),
    ],
)
def test_unusable_content_is_a_fault_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, reason: str
) -> None:
    file = name_file(monkeypatch, tmp_path, content, "TOLLGATE_REDIS__URL_FILE")
    assert fault() == f"TOLLGATE_REDIS__URL_FILE: {file}: {reason}"


def test_all_missing_files_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_REDIS__URL_FILE", "/nowhere/redis")
    monkeypatch.setenv("TOLLGATE_DATABASE__URL_FILE", "/nowhere/database")
    assert sorted(fault().splitlines()) == [
        "TOLLGATE_DATABASE__URL_FILE: /nowhere/database: No such file or directory",
        "TOLLGATE_REDIS__URL_FILE: /nowhere/redis: No such file or directory",
    ]


def test_a_field_that_is_no_secret_has_no_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name_file(monkeypatch, tmp_path, b"127.0.0.1", "TOLLGATE_SERVER__HOST_FILE")
    assert "TOLLGATE_SERVER__HOST_FILE" in fault()


def test_config_check_shows_where_it_came_from_and_not_what(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name_file(monkeypatch, tmp_path, b"hidden-from-all", "TOLLGATE_ADMIN__TOKEN_FILE")
    assert main(["config", "check"]) == 0
    shown = capsys.readouterr().out
    assert "# TOLLGATE_ADMIN__TOKEN" in shown
    assert "hidden-from-all" not in shown
