"""``tollgate limits ...`` as a process, on a real server."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from pydantic import SecretStr

from scripts.loopback import free_port
from service.admission.limiter import Limiter
from service.admission.models import Subject
from service.admission.policies import rulebook_from
from service.admission.rulebook import charge
from service.settings import LimitSettings, load
from service.store.client import Store
from tests.support.commands import tollgate

SECRET = "a-secret-of-the-fleet"
#: So slow that nothing returns while a test runs.
FURTHER = """
[flows]
rate = "30/day"
[status]
rate = "60/day"
[pay]
rate = "9/day"
scope = "fleet"
routes = ["start_job"]
[tiers.gold.flows]
rate = "90/day"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A main file, with a limits.toml beside it."""
    (tmp_path / "tollgate.toml").write_text("")
    (tmp_path / "limits.toml").write_text(FURTHER)
    return tmp_path / "tollgate.toml"


def limits(
    *arguments: str, config: Path, redis: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    environment = {
        "TOLLGATE_CONFIG": str(config),
        "TOLLGATE_REDIS__URL": redis,
        "TOLLGATE_ADMIN__KEY_SECRET": SECRET,
        "COLUMNS": "200",
        **variables,
    }
    return tollgate("limits", *arguments, environment=environment)


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    return {line.split()[0]: line.split()[1:] for line in lines}


# --- keys -------------------------------------------------------------------------------------


def test_a_made_key_is_shown_once_and_known_by_what_is_appended_to_the_file(config: Path) -> None:
    made = limits("key", "acme", "--tier", "gold", config=config)
    assert made.returncode == 0, made.stderr
    (key,) = re.findall(r"tgk_[\w-]+", made.stderr)
    assert key not in made.stdout
    with config.with_name("limits.toml").open("a") as file:
        file.write(made.stdout)
    known = load(config).settings.limits
    book = rulebook_from(known, key_secret=SecretStr(SECRET))
    assert book.keys.name_of(key) == "acme"
    assert book.policies_for("acme")["flows"].tokens == 90
    assert tomllib.loads(made.stdout)["keys"]["acme"].keys() == {"hash", "tier"}
    again = limits("key", "acme", config=config)
    assert (again.returncode, again.stdout) == (2, "")


@pytest.mark.parametrize(
    "arguments",
    [["Acme"], ["unknown"], ["a b"], ["-x"], [""], ["acme", "--tier", "silver"], []],
)
def test_keys_that_could_not_be_used_are_not_made(config: Path, arguments: list[str]) -> None:
    done = limits("key", *arguments, config=config)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_without_the_secret_no_key_is_made(config: Path) -> None:
    done = limits("key", "acme", config=config, TOLLGATE_ADMIN__KEY_SECRET="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "TOLLGATE_ADMIN__KEY_SECRET" in done.stderr


# --- what holds -------------------------------------------------------------------------------


def test_list_without_redis_shows_the_files(config: Path) -> None:
    done = limits("list", config=config)
    assert " ".join(rows(done)["pay"]) == "9/day 9 1 86400 s fleet local-share no - start_job"
    assert rows(done)["flows"][:2] == ["90/day", "90"], "the tier's row is the last"
    assert "# source: files and environment" in done.stdout


def test_list_does_not_pass_off_the_files_as_what_the_fleet_holds(config: Path) -> None:
    away = f"redis://127.0.0.1:{free_port()}"
    done = limits("list", config=config, redis=away)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Redis cannot be reached" in done.stderr
    assert limits("list", "--files", config=config, redis=away).returncode == 0


def test_applied_limits_are_listed_until_they_are_reverted(
    config: Path, redis_url: str, tmp_path: Path
) -> None:
    other = tmp_path / "emergency.toml"
    other.write_text('[start_job]\nrate = "2/hour"\n')
    done = limits(
        "apply", str(other), config=config, redis=redis_url, TOLLGATE_LIMITS__DEMO__RATE="3/hour"
    )
    assert done.returncode == 0, done.stderr
    assert f"with {other}" in done.stdout
    assert "with TOLLGATE_LIMITS__DEMO__RATE" in done.stdout
    listed = limits("list", config=config, redis=redis_url)
    assert rows(listed)["start_job"][0] == "2/hour"
    assert rows(listed)["demo"][0] == "3/hour"
    assert "pay" not in rows(listed), "what is applied is complete"
    assert "# source: published 2" in listed.stdout
    assert limits("revert", config=config, redis=redis_url).returncode == 0
    listed = limits("list", config=config, redis=redis_url)
    assert "pay" in rows(listed)
    assert "reverted" in listed.stdout
    history = limits("history", config=config, redis=redis_url).stdout.splitlines()
    assert [line.split()[3] for line in history[1:]] == ["revert", "apply"]
    assert all("@" in line.split()[2] for line in history[1:])


def test_policy_is_put_on_trial_and_enforced_again(config: Path, redis_url: str) -> None:
    def trial(*arguments: str) -> subprocess.CompletedProcess[str]:
        return limits("shadow", *arguments, config=config, redis=redis_url)

    done = trial("pay", "on", "--reason", "too strict")
    assert done.returncode == 0, done.stderr
    listed = limits("list", config=config, redis=redis_url)
    assert {name for name, row in rows(listed).items() if "yes" in row} == {"pay"}
    assert trial("pay", "on", "--reason", "again").returncode == 2
    assert trial("nosuch", "on", "--reason", "x").returncode == 2
    assert trial("pay", "off").returncode == 2  # why?
    assert trial("pay", "off", "--reason", "it was right").returncode == 0
    listed = limits("list", config=config, redis=redis_url)
    assert not any("yes" in row for row in rows(listed).values())
    history = limits("history", config=config, redis=redis_url).stdout
    assert "pay on trial: too strict" in history
    assert "pay enforced: it was right" in history


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('[start_job]\nrate = "2/fortnight"\n[flow]\nrate = "1/second"\n', 2),
        ('[start_job]\nrate = "2/hour"\ncost = 3\n[tiers.gold.flow]\n', 2),
        ("[start_job\n", 1),
    ],
)
def test_what_is_wrong_is_told_and_not_applied(
    config: Path, redis_url: str, tmp_path: Path, text: str, faults: int
) -> None:
    (tmp_path / "wrong.toml").write_text(text)
    done = limits("apply", str(tmp_path / "wrong.toml"), config=config, redis=redis_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == faults
    assert "# source: files" in limits("list", config=config, redis=redis_url).stdout


def test_apply_names_a_missing_file_and_a_missing_redis(config: Path, tmp_path: Path) -> None:
    missing = limits("apply", str(tmp_path / "none.toml"), config=config, redis="redis://x")
    assert (missing.returncode, len(missing.stderr.splitlines())) == (2, 1)
    away = limits("apply", config=config, redis=f"redis://127.0.0.1:{free_port()}")
    assert away.returncode == 1
    assert "Redis cannot be reached" in away.stderr.splitlines()[-1]


# --- one principal's buckets ------------------------------------------------------------------


async def test_peek_shows_what_is_left_and_reset_fills_it(
    config: Path, redis_url: str, store: Store
) -> None:
    own = LimitSettings.model_validate(tomllib.loads(FURTHER))
    book = rulebook_from(own)
    limiter = Limiter(store, workers_hint=1)
    address = "2001:db8:1:2:3::4"
    for name in ("flows", "flows", "status", "pay"):
        principal = "ip:2001:db8:1:2::/64"
        assert (await limiter.take([charge(book.policies[name], principal)])).allowed

    def left(of: str) -> dict[str, str]:
        done = limits("peek", of, config=config, redis=redis_url)
        return {name: row[0] for name, row in rows(done).items()}

    seen = left(address)
    assert (seen["flows"], seen["status"], seen["demo"]) == ("28", "59", "30")
    assert "pay" not in seen
    assert left(address) == seen, "peeking takes nothing"
    assert left("ip:2001:db8:1:2::/64") == seen
    assert left("fleet")["pay"] == "8"
    one = limits("reset", address, "flows", config=config, redis=redis_url)
    assert one.stdout == "ip:2001:db8:1:2::/64 flows: reset\n"
    assert (left(address)["flows"], left(address)["status"]) == ("30", "59")
    wrong = limits("reset", address, "FLOWS", config=config, redis=redis_url)
    assert wrong.returncode == 2
    assert "it is under: " in wrong.stderr
    assert " flows, " in wrong.stderr
    every = limits("reset", address, config=config, redis=redis_url).stdout
    assert "status: reset" in every
    assert "demo: was full" in every
    assert left(address)["status"] == "60"
    limits("reset", "fleet", config=config, redis=redis_url)
    assert left("fleet")["pay"] == "9"
    history = limits("history", config=config, redis=redis_url).stdout
    assert "reset  ip:2001:db8:1:2::/64 flows" in history
    await limiter.stop()


async def test_peek_at_a_key_is_by_its_tier(config: Path, redis_url: str, store: Store) -> None:
    made = limits("key", "acme", "--tier", "gold", config=config)
    with config.with_name("limits.toml").open("a") as file:
        file.write(made.stdout)
    book = rulebook_from(load(config).settings.limits, key_secret=SecretStr(SECRET))
    limiter = Limiter(store, workers_hint=1)
    mine = book.policies_for("acme")["flows"]
    assert charge(mine, "key:acme").subject == Subject("client", "key:acme")
    await limiter.take([charge(mine, "key:acme")])
    done = limits("peek", "--key", "acme", config=config, redis=redis_url)
    assert rows(done)["flows"][:2] == ["89", "90"]
    same = limits("peek", "key:acme", config=config, redis=redis_url)
    assert rows(same)["flows"][:2] == ["89", "90"]
    await limiter.stop()


@pytest.mark.parametrize(
    "arguments",
    [
        ["peek"],
        ["peek", "198.51.100.1", "--key", "acme"],
        ["peek", "nobody"],
        ["peek", "key:nobody"],
        ["peek", "--key", "nobody"],
        ["reset"],
        ["reset", "198.51.100.1", "no_policy"],
        ["reset", "198.51.100.1", "pay"],
        ["reset", "fleet", "flows"],
        ["reset", "ip:198.51.100.1/99"],
    ],
)
def test_whom_or_what_there_is_not_is_a_line_and_code_2(
    config: Path, redis_url: str, arguments: list[str]
) -> None:
    done = limits(*arguments, config=config, redis=redis_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
