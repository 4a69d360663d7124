"""The command line without servers: what it takes, what it shows, how it fails."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from service import __version__
from service.cli import main
from service.cli.terminal import show, table

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("TOLLGATE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


Captured = pytest.CaptureFixture[str]


def test_config_check_shows_every_section_and_can_be_read_back(capsys: Captured) -> None:
    assert main(["config", "check"]) == 0
    text = capsys.readouterr().out
    shown = tomllib.loads(text)
    assert shown["server"]["port"] == 8000
    assert shown["limits"]["flows"]["rate"] == "30/minute"
    assert "#url is not set" in text
    assert text.startswith("# files: none")


def test_config_check_names_sources_and_masks_secrets(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text("[server]\nport = 8001\n")
    monkeypatch.setenv("TOLLGATE_CONFIG", str(tmp_path / "mine.toml"))
    monkeypatch.setenv(
        "TOLLGATE_DATABASE__URL", "postgresql://me:hunter2@db:5432/tg?sslkey=hunter2"
    )
    monkeypatch.setenv("TOLLGATE_REDIS__URL", "redis://cache:6379/0")
    monkeypatch.setenv("TOLLGATE_PAYMENT__API_KEY", "hunter2")
    monkeypatch.setenv("TOLLGATE_PAYMENT__URL", "https://me:hunter2@pay.example/api")
    monkeypatch.setenv("TOLLGATE_ADMIN__TOKEN", "host=db password=hunter2")
    assert main(["config", "check"]) == 0
    text = capsys.readouterr().out
    assert "hunter2" not in text
    shown = tomllib.loads(text)
    assert shown["database"]["url"] == "postgresql://***@db:5432/tg"
    assert shown["redis"]["url"] == "redis://cache:6379/0"
    assert shown["payment"]["api_key"] == "***"
    assert shown["payment"]["url"] == "https://***@pay.example/api"
    assert shown["admin"]["token"] == "***"
    assert shown["server"]["port"] == 8001
    assert f"# files: {tmp_path}/mine.toml" in text
    assert 'url = "redis://cache:6379/0"  # TOLLGATE_REDIS__URL' in text


@pytest.mark.parametrize("command", [["config", "check"], ["limits", "list"], ["serve"]])
def test_wrong_settings_are_a_line_each_and_code_2(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("TOLLGATE_SERVER__PORT", "hunter2")
    monkeypatch.setenv("TOLLGATE_DATABASE__POOL_MAX", "none")
    assert main(command) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("tollgate: ") for line in lines)
    assert "hunter2" not in captured.err + captured.out


def test_limits_that_no_bucket_can_hold_are_refused(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_LIMITS__FLOWS__RATE", "1/day")
    monkeypatch.setenv("TOLLGATE_LIMITS__FLOWS__BURST", "1000")
    assert main(["config", "check"]) == 2
    assert "limits.flows" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["config", "check"], ["serve"]])
def test_addresses_and_files_of_no_use_are_told_before_anything_is_started(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    wrong = {
        "REDIS__URL": "hunter2:6379",
        "REDIS__CA_FILE": str(tmp_path / "nowhere.pem"),
        "REDIS__KEY_FILE": str(tmp_path),
        "DATABASE__URL": "postgresql://me:hunter2@a,b/tollgate",
        "DATABASE__LISTEN_URL": "postgresql://me:hunter2@a,b/tollgate",
        "PAYMENT__URL": "https://[",
        "TRACING__ENABLED": "true",
    }
    for name, value in {**wrong, "PAYMENT__API_KEY": "hunter2"}.items():
        monkeypatch.setenv(f"TOLLGATE_{name}", value)
    for name in [name for name in sys.modules if name.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert main(command) == 2
    told = capsys.readouterr().err
    assert [line.split()[1].rstrip(":") for line in told.splitlines()] == [
        "redis.url",
        "redis.ca_file",
        "redis.key_file",
        "database.url",
        "database.listen_url",
        "payment.url",
        "tracing.enabled",
    ]
    assert "hunter2" not in told
    assert f"redis.ca_file: {tmp_path}/nowhere.pem cannot be read" in told


def test_serving_needs_to_know_its_servers(capsys: Captured) -> None:
    assert main(["serve"]) == 2
    error = capsys.readouterr().err
    for name in ("REDIS__URL", "DATABASE__URL", "PAYMENT__URL", "PAYMENT__API_KEY"):
        assert f"TOLLGATE_{name}" in error
    assert len(error.splitlines()) == 4


@pytest.mark.parametrize(
    "command", [["migrate"], ["flows", "list"], ["breaker", "show"], ["jobs", "show", "0" * 32]]
)
def test_commands_name_the_server_they_miss(capsys: Captured, command: list[str]) -> None:
    assert main(command) == 2
    assert "is not set: set TOLLGATE_" in capsys.readouterr().err


def test_limits_list_shows_rate_and_burst(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOLLGATE_LIMITS__FLOWS__BURST", "7")
    assert main(["limits", "list"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["flows"][1:3] == ["30/minute", "7"]
    assert rows["start_job"][1:3] == ["10/minute", "10"]


def test_faults_of_a_flow_file_are_told_before_any_server_is_asked(
    capsys: Captured, tmp_path: Path
) -> None:
    (tmp_path / "flows.toml").write_text('[[flows]]\nslug = "health"\n')
    assert main(["flows", "import", str(tmp_path / "flows.toml")]) == 2
    assert str(tmp_path / "flows.toml") in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["flows"],
        ["nonsense"],
        ["jobs", "show", "12"],
        ["migrate", "--wait", "-1"],
        ["flows", "import"],
    ],
)
def test_wrong_command_line_is_code_2(capsys: Captured, command: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "usage: tollgate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["jobs", "list", "--limit", "0"], "'0' is not a whole number from 1 to 10000"),
        (["breaker", "show", "--events", "all"], "'all' is not a whole number from 1 to 10000"),
        (["migrate", "--wait", "nan"], "'nan' is not a number of seconds from 0 to 86400"),
        (["migrate", "--wait", "1m"], "'1m' is not a number of seconds from 0 to 86400"),
    ],
)
def test_number_out_of_bounds_is_told_with_its_bounds(
    capsys: Captured, command: list[str], said: str
) -> None:
    with pytest.raises(SystemExit):
        main(command)
    assert said in capsys.readouterr().err


def test_version_and_help(capsys: Captured) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"tollgate {__version__}\n"
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    commands = ("serve", "migrate", "flows", "limits", "breaker", "jobs", "openapi", "config")
    assert all(name in text for name in commands)
    assert "Exit codes:" in text


def test_output_cannot_steer_the_terminal(capsys: Captured) -> None:
    show("name \x1b[2J\x07 and \u202e")
    table(("A", "B"), [("one", "\x1b]0;x\x07"), ("seventeen", "-")])
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\x1b[2J" in text


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "program",
    [[sys.executable, "-m", "service"], [str(Path(sys.executable).with_name("tollgate"))]],
    ids=["module", "script"],
)
def test_both_ways_to_call_it(program: list[str]) -> None:
    done = run(*program, "config", "check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "# files: config/tollgate.toml, config/limits.toml" in done.stdout
    failed = run(*program, "config", "check", TOLLGATE_SERVER__PORT="x")
    assert failed.returncode == 2
    assert len(failed.stderr.splitlines()) == 1


def test_openapi_document_goes_to_stdout_even_if_nobody_reads_on() -> None:
    done = run("sh", "-c", f"{sys.executable} -m service openapi | head -c 1")
    assert (done.stdout, done.stderr) == ("{", "")


def test_master_of_the_workers_does_not_import_what_must_wait_for_them() -> None:
    code = "import sys, service.cli.program, service.cli.serve; print(sorted(sys.modules))"
    modules = run(sys.executable, "-c", code).stdout
    assert "'service.server.worker'" in modules
    assert "'prometheus_client'" not in modules
