"""What ``make clean`` executes: remove everything that running and testing made.

Uses the standard library alone: it may be what removes the environment it would need.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from scripts.account import ServersUnavailable, elsewhere
from scripts.lock import LOCK, only_one

ROOT = Path(__file__).resolve().parents[1]
MADE = (
    ".venv",
    ".venv-schemathesis",
    ".venv-bench",
    ".venv-browser",
    "build",
    "dist",
    "*.egg-info",
    ".coverage*",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".hypothesis",
    ".schemathesis",
    ".import_linter_cache",
    "*/**/__pycache__",
    ".run",
)


def main() -> int:
    try:
        if (ROOT / ".run").exists():
            with only_one(ROOT / ".run" / LOCK):
                _remove_all()
        else:
            _remove_all()
    except ServersUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _remove_all() -> None:
    for path in [elsewhere(), *(found for pattern in MADE for found in ROOT.glob(pattern))]:
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=not path.exists())


if __name__ == "__main__":
    sys.exit(main())
