"""The files in which the workers of a replica share what they count, and what becomes of them.

Each worker writes files of its own (prometheus_client: ``<type>_<pid>.db``), any worker reads all
of them. A worker that has ended leaves its counts: its master adds them to those of all who ended
before, in one file for each type, and drops its gauges. Readers take no lock: an index names the
generation of the sums and whose files are in them already, and is replaced in one step. Who finds
another index after reading than before reads again, so nothing is missed or counted twice.

The directory is locked (flock) by the master and, by inheritance, by its workers, as long as one of
them lives: what nobody holds any more is removed at the next start.

Imports nothing of prometheus_client, which the master must not have loaded before it forks. Leans
on its file format (0.26): used bytes, then entries of length, padded key, value and time.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import struct
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

PREFIX = "tollgate-metrics-"
#: Types whose values are sums, and so outlive the worker.
SUMS = ("counter", "histogram", "summary")
INDEX = "ended.json"
#: A reader that meets so many workers' ends in a row takes what it has.
READINGS = 10

T = TypeVar("T")

_USED = struct.Struct("i4x")
_LENGTH = struct.Struct("i")
_VALUE = struct.Struct("dd")


@dataclass(frozen=True, slots=True)
class _Index:
    """The sums of ended workers that hold now, and files that are in them but still lie about."""

    generation: int = 0
    added: tuple[str, ...] = ()

    @classmethod
    def read(cls, directory: Path) -> _Index:
        try:
            found = json.loads((directory / INDEX).read_text())
        except FileNotFoundError:
            return cls()
        return cls(found["generation"], tuple(found["added"]))

    def write(self, directory: Path) -> None:
        new = directory / f"{INDEX}.new"
        new.write_text(json.dumps(asdict(self)))
        new.replace(directory / INDEX)

    def sums(self, directory: Path, kind: str) -> Path:
        return directory / f"{kind}_ended-{self.generation}.db"

    def holds(self, file: Path) -> bool:
        """Whether its counts are part of the totals and are in no other file."""
        pid = file.stem.rpartition("_")[2]
        if pid.startswith("ended-"):
            return pid == f"ended-{self.generation}"
        return file.name not in self.added


class Directory:
    """Where one replica's workers share their counts; held until ``remove`` or the last's end."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def __repr__(self) -> str:
        return f"<Directory {self.path}>"

    @classmethod
    def make(cls, parent: str | None) -> Directory:
        """A new one in ``parent`` (None: where temporary files belong)."""
        while True:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            with suppress(FileNotFoundError):  # taken for a dead one before it was locked
                descriptor = _locked(path, wait=True)
                if path.exists():
                    return cls(path, descriptor)
                os.close(descriptor)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._descriptor)


def remove_abandoned(parent: str | None) -> list[Path]:
    """Remove what masters left that could not do so themselves; returns what was there."""
    removed = []
    for path in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if path.is_symlink() or path.stat().st_uid != os.getuid():
                continue
            descriptor = _locked(path, wait=False)
        except OSError:  # somebody lives in it, or has just left it
            continue
        try:
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
        finally:
            os.close(descriptor)
    return removed


def take_over(directory: Path, pid: int) -> None:
    """Add the counts of a worker that has ended to those of the others, and drop its gauges."""
    for gauge in directory.glob(f"gauge_*_{pid}.db"):
        gauge.unlink(missing_ok=True)
    left = [file for kind in SUMS if (file := directory / f"{kind}_{pid}.db").exists()]
    if not left:
        return
    before = _Index.read(directory)
    after = _Index(before.generation + 1, tuple(file.name for file in left))
    for kind in SUMS:
        files = [before.sums(directory, kind), directory / f"{kind}_{pid}.db"]
        sums = _added(file for file in files if file.exists())
        if sums:
            after.sums(directory, kind).write_bytes(_packed(sums))
    after.write(directory)
    for file in (*left, *(before.sums(directory, kind) for kind in SUMS)):
        file.unlink(missing_ok=True)
    # A later worker may get the same pid.
    _Index(after.generation).write(directory)


def read_all(directory: Path, read: Callable[[list[str]], T]) -> T:
    """What ``read`` makes of the files that hold all counts, each once."""
    for _ in range(READINGS - 1):
        before = _Index.read(directory)
        with suppress(FileNotFoundError):
            found = read(_files(directory, before))
            if _Index.read(directory) == before:
                return found
    return read(_files(directory, _Index.read(directory)))


def _files(directory: Path, index: _Index) -> list[str]:
    return [
        entry.path
        for entry in sorted(os.scandir(directory), key=lambda entry: entry.name)
        if entry.name.endswith(".db") and index.holds(Path(entry.path)) and _begun(entry)
    ]


def _begun(entry: os.DirEntry[str]) -> bool:
    """A worker makes an empty file first; a gauge's may be gone since."""
    with suppress(FileNotFoundError):
        return entry.stat().st_size > 0
    return False


def _locked(path: Path, *, wait: bool) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _added(files: Iterable[Path]) -> dict[bytes, float]:
    sums: defaultdict[bytes, float] = defaultdict(float)
    for file in files:
        data = file.read_bytes() or _USED.pack(0)
        at, (used,) = _USED.size, _LENGTH.unpack_from(data)
        while at < used:
            (length,) = _LENGTH.unpack_from(data, at)
            key = data[at + _LENGTH.size : at + _LENGTH.size + length]
            at += _LENGTH.size + _padded(length)
            sums[key] += _VALUE.unpack_from(data, at)[0]
            at += _VALUE.size
    return sums


def _packed(sums: Mapping[bytes, float]) -> bytes:
    entries = b"".join(
        _LENGTH.pack(len(key)) + key.ljust(_padded(len(key))) + _VALUE.pack(value, 0.0)
        for key, value in sums.items()
    )
    return _USED.pack(_USED.size + len(entries)) + entries


def _padded(length: int) -> int:
    """With the length before it, keys fill whole words of eight bytes, and one space at least."""
    return length + 8 - (length + _LENGTH.size) % 8
