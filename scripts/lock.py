"""One at a time in one checkout."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from scripts.account import ServersUnavailable

#: Its name in the directory it guards.
LOCK = "lock"


def held(path: Path) -> bool:
    """Whether somebody holds the lock now."""
    try:
        with path.open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the lock, or raise ServersUnavailable naming the holder.

    The kernel gives it back when its holder ends, however that ends: it can not go stale.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise ServersUnavailable(
                f"Tollgate is already running in this checkout (process {lock.read().strip()});"
                " stop it first, or use another checkout."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
