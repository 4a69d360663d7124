"""The account servers run under: ours, or an unprivileged one where we are root.

PostgreSQL refuses to run as root, and nothing else here needs to. The other account must be able
to reach its files, but no directory that exists is ever opened up for it: what it can not reach is
copied, or placed, where it can.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNPRIVILEGED = "nobody"
_CHECKOUT = Path(__file__).resolve().parents[1]


class ServersUnavailable(Exception):
    """An embedded server can not run here; the message says what to do instead."""


@dataclass(frozen=True, slots=True)
class Account:
    """None in both fields: stay who we are."""

    uid: int | None = None
    gid: int | None = None

    def popen(self) -> dict[str, Any]:
        """The arguments of Popen that change to this account."""
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """Whether every directory on the way, and the path itself, lets this account in."""
        if self.uid is None:
            return True
        resolved = path.resolve()
        return all(
            step.stat().st_mode & stat.S_IXOTH or step.stat().st_uid == self.uid
            for step in (resolved, *resolved.parents)
        )


def server_account() -> Account:
    if os.geteuid() != 0:
        return Account()
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise ServersUnavailable(
            f"Running as root, and there is no account '{UNPRIVILEGED}' for the servers;"
            " run as an ordinary user."
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def scratch() -> Path:
    """A new temporary directory the servers' account can reach; the caller removes it."""
    path = Path(tempfile.mkdtemp(prefix="tollgate-"))
    path.chmod(0o711)
    if server_account().reaches(path):
        return path
    path.rmdir()  # TMPDIR is a private one
    path = Path(tempfile.mkdtemp(prefix="tollgate-", dir="/tmp"))
    path.chmod(0o711)
    return path


def reachable_home(wanted: Path) -> Path:
    """``wanted`` where the servers' account can reach it, else a fixed place for it elsewhere."""
    wanted.mkdir(parents=True, exist_ok=True)
    if server_account().reaches(wanted):
        return wanted.resolve()
    return _elsewhere(str(wanted.resolve()))


def reachable_copy(*sources: Path, layout: Path) -> Path:
    """``layout``, or a copy of the ``sources`` below it, which keep their places in relation."""
    account = server_account()
    # One installer with one umask wrote them: the tops speak for the rest.
    if all(account.reaches(source) for source in sources):
        return layout
    newest = max(source.stat().st_mtime_ns for source in sources)
    home = _elsewhere(f"{layout.resolve()} {newest}") / "copy"
    if not home.exists():
        with tempfile.TemporaryDirectory(dir=home.parent) as partial:
            for source in sources:
                target = Path(partial, "copy", source.relative_to(layout))
                shutil.copytree(source, target, symlinks=True)
            _open_to_all(Path(partial, "copy"))
            # Another start may have been quicker: then its copy serves both.
            with contextlib.suppress(OSError):
                Path(partial, "copy").rename(home)
    return home


def elsewhere() -> Path:
    """This checkout's place outside itself; ``make clean`` removes it."""
    digest = hashlib.sha256(str(_CHECKOUT).encode()).hexdigest()[:12]
    return Path(f"/var/tmp/tollgate-{os.geteuid()}-{digest}")  # noqa: S108 (owner is checked)


def _elsewhere(key: str) -> Path:
    base = elsewhere()
    base.mkdir(mode=0o711, exist_ok=True)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise ServersUnavailable(f"{base} is not a directory of ours; remove it.")
    path = base / hashlib.sha256(key.encode()).hexdigest()[:12]
    path.mkdir(exist_ok=True)
    base.chmod(0o711)
    path.chmod(0o711)
    return path


def _open_to_all(directory: Path) -> None:
    for parent, _, files in os.walk(directory):
        Path(parent).chmod(0o755)
        for name in files:
            file = Path(parent, name)
            if not file.is_symlink():
                file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
