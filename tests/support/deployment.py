"""What the deployment files say, compared with what the code knows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import yaml

from service.cli import program
from service.server.launch import STOP_MARGIN_S
from service.settings import PREFIX, ServerSettings, Settings, load
from service.settings.secret_files import SUFFIX, secret_variables

ROOT = Path(__file__).parents[2]
_INTERPOLATED = re.compile(r"\$\{([A-Z_]+)(?::([-?])([^}]*))?\}")
#: A secret of any kind: long enough for those that have a least length, and an address.
_ANY_SECRET = "redis://user:sixteen-characters@host.example:6379/0"


def documents(path: str) -> list[dict[str, Any]]:
    """The documents of a YAML file of the tree."""
    return list(yaml.safe_load_all((ROOT / path).read_text()))


def interpolated(value: str) -> str:
    """As compose reads it where no variable is set."""
    return _INTERPOLATED.sub(lambda found: found[3] or "", value)


def settings_of(environment: Mapping[str, str], folder: Path) -> Settings:
    """The settings a container with these variables has; files of secrets are stood in for.

    Raises ConfigurationError as the container would.
    """
    file = folder / "any-secret"
    file.write_text(_ANY_SECRET)
    secrets = {f"{name}{SUFFIX}" for name in secret_variables(PREFIX, Settings.model_fields)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    given = {name: str(file) if name in secrets else v for name, v in environment.items()}
    with patch.dict(os.environ, kept | given, clear=True):
        return load(ROOT / "config/tollgate.toml").settings


def secret_files(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that name files of secrets, and the files."""
    return {name: file for name, file in environment.items() if name.endswith(SUFFIX)}


def accepts(arguments: Sequence[str]) -> bool:
    """Whether `tollgate` knows this command line."""
    try:
        program._parser().parse_args(list(arguments))
    except SystemExit:
        return False
    return True


def longest_leave_s(server: ServerSettings) -> float:
    """From SIGTERM to the end, at most: docs/configuration.md."""
    return server.drain_delay + 2 * server.shutdown_timeout + STOP_MARGIN_S


def seconds(text: str) -> float:
    """A duration of compose: 90s or 1m30s."""
    found = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text)
    assert found, text
    assert text
    return 60 * int(found[1] or 0) + int(found[2] or 0)


def mebibytes(text: str) -> float:
    """A size of compose or Kubernetes."""
    found = re.fullmatch(r"(\d+)(k|m|M|G|Mi|Gi)b?", text)
    assert found, text
    return int(found[1]) * {"k": 1 / 1024, "m": 1, "M": 1, "G": 1024, "Mi": 1, "Gi": 1024}[found[2]]


def absent(paths: Iterable[str]) -> list[str]:
    """Those that are not in the tree."""
    return [path for path in paths if not (ROOT / path).exists()]
