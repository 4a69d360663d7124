"""The settings, and that file, document and settings tree say the same."""

import configparser
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.errors import ConfigurationError
from service.settings import LimitSettings, Rate, Settings, load
from service.settings.limits import RouteLimits

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the machine, and a folder without config/."""
    for name in list(os.environ):
        if name.startswith("TOLLGATE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def write(folder: Path, main: str = "", limits: str | None = None) -> Path:
    (folder / "tollgate.toml").write_text(main)
    if limits is not None:
        (folder / "limits.toml").write_text(limits)
    return folder / "tollgate.toml"


def faults(path: Path | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(path)
    return caught.value.message.splitlines()


# --- where values come from -------------------------------------------------------------------


def test_without_any_source_the_defaults_hold() -> None:
    loaded = load()
    assert loaded.files == ()
    assert loaded.settings.server.port == 8000
    assert loaded.settings.database.pool_max == 20
    assert loaded.settings.server.workers == (os.cpu_count() or 1)
    assert loaded.settings.limits.health.rate == Rate(100, 60)


def test_environment_wins_over_file_and_file_over_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write(tmp_path, "[server]\nport = 8101\nrequest_timeout = 25\n[redis]\ntimeout = 0.1\n")
    monkeypatch.setenv("TOLLGATE_SERVER__PORT", "8102")
    settings = load(path).settings
    assert settings.server.port == 8102
    assert settings.server.request_timeout == 25
    assert settings.server.internal_port == 8090
    assert settings.redis.timeout == 0.1


def test_variable_names_another_main_file_and_limits_are_beside_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    path = write(folder, "[server]\nport = 8103\n", '[flows]\nrate = "7/second"\n')
    monkeypatch.setenv("TOLLGATE_CONFIG", str(path))
    loaded = load()
    assert loaded.settings.server.port == 8103
    assert loaded.settings.limits.flows.rate == Rate(7, 1)
    assert loaded.files == (path, folder / "limits.toml")


def test_named_file_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_CONFIG", "/nowhere/tollgate.toml")
    assert faults() == ["TOLLGATE_CONFIG: there is no file /nowhere/tollgate.toml"]


def test_file_that_may_not_be_looked_for_is_a_fault(tmp_path: Path) -> None:
    # Root may look everywhere, but even for root a name has its bounds.
    (path := tmp_path / "tollgate.toml").symlink_to("x" * 300)
    assert faults(path) == [f"{path}: File name too long"]


def test_file_nested_too_deep_is_a_fault(tmp_path: Path) -> None:
    path = write(tmp_path, f"a = {'[' * 5000}{']' * 5000}\n")
    [fault] = faults(path)
    assert fault.startswith(f"{path}: ")


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_REDIS__URL", "")
    monkeypatch.setenv("TOLLGATE_SERVER__PORT", "")
    settings = load().settings
    assert settings.redis.url is None
    assert settings.server.port == 8000


@pytest.mark.parametrize("limits", [None, '[flows]\nrate = "60/minute"\nburst = 5\n'])
def test_one_field_of_a_policy_can_be_replaced_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limits: str | None
) -> None:
    path = write(tmp_path, "", limits)
    monkeypatch.setenv("TOLLGATE_LIMITS__FLOWS__SHADOW", "true")
    monkeypatch.setenv("TOLLGATE_LIMITS__STATUS__RATE", "5/second")
    settings = load(path).settings
    assert settings.limits.flows.shadow is True
    assert settings.limits.flows.rate == (Rate(30, 60) if limits is None else Rate(60, 60))
    assert settings.limits.flows.burst == (None if limits is None else 5)
    assert settings.limits.status.rate == Rate(5, 1)
    assert settings.limits.start_job.rate == Rate(10, 60)


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("10.0.0.0/8", ("10.0.0.0/8",)),
        ("10.1.2.3/8, fd00::/8", ("10.0.0.0/8", "fd00::/8")),
        ('["10.0.0.0/8", "127.0.0.1"]', ("10.0.0.0/8", "127.0.0.1/32")),
        ("[]", ()),
    ],
)
def test_trusted_proxies_from_a_variable(
    monkeypatch: pytest.MonkeyPatch, text: str, networks: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TOLLGATE_SERVER__TRUSTED_PROXIES", text)
    assert load().settings.server.trusted_proxies == networks


# --- what is refused --------------------------------------------------------------------------


def test_every_fault_is_one_line_with_its_variable_and_without_the_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TOLLGATE_SERVER__PORT", "eighty-and-secret")
    monkeypatch.setenv("TOLLGATE_SERVER__ROLE", "boss-and-secret")
    monkeypatch.setenv("TOLLGATE_LIMITS__FLOWS__RATE", "30 per minute and secret")
    found = faults()
    assert len(found) == 3
    for name in ("SERVER__PORT", "SERVER__ROLE", "LIMITS__FLOWS__RATE"):
        assert sum(f"(variable TOLLGATE_{name})" in line for line in found) == 1
    assert "secret" not in "".join(found)


@pytest.mark.parametrize("name", ["TOLLGATE_SERVR__PORT", "TOLLGATE_PORT", "TOLLGATE_SERVER__PROT"])
def test_misspelt_variable_is_a_fault(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert len(faults()) == 1
    assert name in faults()[0]
    assert "no such setting" in faults()[0]


@pytest.mark.parametrize(
    "text", ["[servr]\nport = 1\n", "[server]\nprot = 1\n", "port = 1\n", "_env_prefix = 'X_'\n"]
)
def test_misspelt_name_in_the_file_is_a_fault(tmp_path: Path, text: str) -> None:
    assert len(faults(write(tmp_path, text))) == 1


def test_unknown_policy_is_a_fault(tmp_path: Path) -> None:
    assert len(faults(write(tmp_path, "", '[flow]\nrate = "1/second"\n'))) == 1


def test_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, "[server\n")
    assert faults(path)[0].startswith(f"{path}: ")


def test_section_given_as_plain_text_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLGATE_SERVER", "not json")
    assert faults()


@pytest.mark.parametrize("text", ["0/minute", "-1/minute", "1.5/minute", "30", "30/week", "/day"])
def test_rate_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TOLLGATE_LIMITS__FLOWS__RATE", text)
    assert "30/minute" in faults()[0]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PAYMENT__CALL_TIMEOUT", "30", "must be less than server.request_timeout"),
        ("JOBS__INTENT_GRACE", "24", "payment.call_timeout (24 s) must be less than jobs.intent"),
        ("PAYMENT__ATTEMPT_TIMEOUT", "9", "must be less than breaker.probe_lease_seconds"),
        ("PAYMENT__CONNECT_TIMEOUT", "7", "must be less than payment.attempt_timeout"),
        ("DATABASE__ACQUIRE_TIMEOUT", "31", "must be less than server.request_timeout"),
        ("DATABASE__POOL_MIN", "21", "must not exceed database.pool_max"),
        ("PAYMENT__SUBMIT_WITHIN", "1199", "must be at least 1200"),
        ("PAYMENT__SUBMIT_WITHIN", "1620", "must be less than payment.submit_within (1620 s)"),
        ("JOBS__SETTLE_MARGIN", "2400", "must be less than payment.submit_within (3600 s)"),
        ("CACHE__FRESH_SECONDS", "86400", "must be less than cache.stale_seconds"),
        ("SERVER__INTERNAL_PORT", "8000", "server.port and server.internal_port must differ"),
        ("SERVER__REQUEST_TIMEOUT", "nan", "TOLLGATE_SERVER__REQUEST_TIMEOUT"),
        ("SERVER__TRUSTED_PROXIES", "10.0.0.0/33", "TOLLGATE_SERVER__TRUSTED_PROXIES"),
        ("SERVER__CORS_ORIGINS", "shop.example", "TOLLGATE_SERVER__CORS_ORIGINS"),
        ("PAYMENT__URL", "ftp://payments", "TOLLGATE_PAYMENT__URL"),
    ],
)
def test_contradiction_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(f"TOLLGATE_{name}", value)
    assert any(words in line for line in faults())


@pytest.mark.parametrize(("host", "wrong"), [("0.0.0.0", True), ("10.0.0.1", False)])  # noqa: S104
def test_one_port_on_two_addresses_is_a_fault_only_where_they_meet(
    monkeypatch: pytest.MonkeyPatch, host: str, wrong: bool
) -> None:
    monkeypatch.setenv("TOLLGATE_SERVER__HOST", host)
    monkeypatch.setenv("TOLLGATE_SERVER__INTERNAL_PORT", "8000")
    if wrong:
        assert "must differ" in faults()[0]
    else:
        assert load().settings.server.host == host


def test_settings_show_no_secret_and_cannot_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS__URL", "DATABASE__URL", "PAYMENT__API_KEY", "ADMIN__TOKEN"):
        monkeypatch.setenv(f"TOLLGATE_{name}", "hunter2hunter2")
    settings = load().settings
    assert "hunter2" not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.redis.url is not None
    assert settings.redis.url.get_secret_value() == "hunter2hunter2"
    with pytest.raises(ValueError, match="frozen"):
        settings.server.port = 1  # type: ignore[misc]


# --- file, document and tree agree ------------------------------------------------------------


def tree() -> Iterator[tuple[str, str, Any]]:
    """Section, field and default of every setting except the policies' own."""
    for section, field in Settings.model_fields.items():
        if section == "limits":
            continue
        for name, inner in type(field.default).model_fields.items():
            default = None if inner.default_factory else inner.default
            yield section, name, default


def uncommented(text: str) -> dict[str, Any]:
    """The file with its settings that have no default switched on."""
    return tomllib.loads(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", text))


def names_of(sections: dict[str, Any]) -> set[tuple[str, str]]:
    return {(section, name) for section, fields in sections.items() for name in fields}


def test_file_holds_every_setting_with_its_default() -> None:
    text = (ROOT / "config/tollgate.toml").read_text()
    expected = list(tree())
    assert names_of(uncommented(text)) == {(section, name) for section, name, _ in expected}
    given = tomllib.loads(text)
    for section, name, default in expected:
        if default is None:
            assert name not in given[section], f"{section}.{name} has no default"
        else:
            value = given[section][name]
            assert (tuple(value) if isinstance(value, list) else value) == default, name


def test_limits_file_holds_every_policy_with_its_default() -> None:
    text = (ROOT / "config/limits.toml").read_text()
    given = uncommented(text)
    assert set(given) == set(RouteLimits.model_fields)
    for policy, field in RouteLimits.model_fields.items():
        assert given[policy] == {
            "rate": str(field.default.rate),
            "burst": field.default.rate.tokens,
            "cost": field.default.cost,
            "on_outage": field.default.on_outage,
            "shadow": field.default.shadow,
        }
        assert "burst" not in tomllib.loads(text)[policy]


def test_shipped_files_are_accepted_with_the_rare_lines_switched_on(tmp_path: Path) -> None:
    loaded = load(ROOT / "config/tollgate.toml")
    assert loaded.settings == Settings()
    for name in ("tollgate.toml", "limits.toml"):
        text = (ROOT / "config" / name).read_text()
        (tmp_path / name).write_text(re.sub(r"(?m)^#(?=[a-z_]+ = )", "", text))
    assert load(tmp_path / "tollgate.toml").settings.server.default_flow


def test_examples_in_the_limits_file_are_accepted(tmp_path: Path) -> None:
    own, examples = (ROOT / "config/limits.toml").read_text().split("# What follows is off")
    switched_on = re.sub(r"(?m)^# (?=\[|[a-z_]+ = )", "", examples)
    (tmp_path / "tollgate.toml").write_text("")
    (tmp_path / "limits.toml").write_text(f"{own}#{switched_on}")
    limits = load(tmp_path / "tollgate.toml").settings.limits
    assert limits.further.keys() == {"whole_client", "payment_service"}
    assert limits.keys["acme"].tier in limits.tiers
    assert limits.allow.networks
    assert limits.deny.networks


def shown(default: Any) -> str:
    if default is None:
        return "–"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return "`[]`" if default == () else f"`{default}`"


def test_document_lists_every_variable_with_its_default() -> None:
    text = (ROOT / "docs/configuration.md").read_text()
    rows = dict(re.findall(r"(?m)^\| `TOLLGATE_([A-Z]+__[A-Z_]+)` \| ([^|]+?) \|", text))
    expected = {f"{s}__{n}".upper(): shown(default) for s, n, default in tree()}
    assert rows == expected | {"SERVER__WORKERS": "number of cores"}
    policies = dict(re.findall(r"(?m)^\| `([A-Z_]+)` \| `(\d+/minute)` \|", text))
    assert policies == {
        name.upper(): str(field.default.rate) for name, field in RouteLimits.model_fields.items()
    }
    fields = set(re.findall(r"`TOLLGATE_LIMITS__<POLICY>__([A-Z_]+)`", text))
    assert fields == {name.upper() for name in type(LimitSettings().flows).model_fields}


def test_document_gives_a_reason_and_the_bound_of_every_dependency() -> None:
    text = (ROOT / "docs/dependencies.md").read_text()
    rows = re.findall(r"(?m)^\| ([a-z0-9-]+) \| (any|`[^`]+`) \| ([^|]+) \|", text)
    documented = {name: bound.strip("`").replace("any", "") for name, bound, _ in rows[0:]}
    documented.pop("package", None)
    assert all(reason.strip() for _, _, reason in rows)

    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    listed = [setup["options"]["install_requires"], *setup["options.extras_require"].values()]
    required = {}
    for line in "\n".join(listed).splitlines():
        requirement = line.split("#")[0].split(";")[0].strip()
        if requirement:
            name, bound = re.fullmatch(r"([a-z0-9-]+)(?:\[[a-z,]+\])?\s*(.*)", requirement).groups()  # type: ignore[union-attr]
            required[name] = bound
    assert documented == required
