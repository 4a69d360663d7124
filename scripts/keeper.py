"""Run one server as a child, and stop it when the process that wanted it has gone, however it went.

Standard input is a pipe whose other end only that process holds. Its first line is the order; it
closes when the process ends, even by SIGKILL, on Linux and macOS alike. The server is the keeper's
own child, so its number can not have been given to a stranger when a signal is sent. First line of
standard output: the server's process id. The keeper ends when the server and all its processes
have, with the server's exit code.

Started as a file, isolated (``python -I``): nothing here may import from this project.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def family(pid: int) -> list[int]:
    """``pid`` and all its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for child, parent in parents():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for member in found:
        found += children.get(member, [])
    return found


def signal_family(pid: int, number: int) -> None:
    for member in family(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, number)


def parents() -> list[tuple[int, int]]:
    """Every process of this machine with its parent."""
    if not Path("/proc/self/stat").exists():
        table = subprocess.run(
            ["/bin/ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True
        ).stdout.split()
        return list(zip(map(int, table[::2]), map(int, table[1::2]), strict=True))
    pairs = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # The name in brackets may hold anything; what follows its end is fixed.
            fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
            pairs.append((int(entry.name), int(fields[1])))
    return pairs


def _stop(child: subprocess.Popen[bytes], signals: list[int], grace_s: float) -> None:
    for number in signals:
        signal_family(child.pid, signal.SIGCONT)
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace_s)
            return
    signal_family(child.pid, signal.SIGKILL)


def main() -> int:
    order = json.loads(sys.stdin.buffer.readline())
    _adopt_orphans()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only the end of the starter counts. A handler, not SIG_IGN: the server would inherit that.
        signal.signal(number, lambda *_: None)
    # Our standard output is the starter's pipe: not the server's.
    with Path(order["log"]).open("ab") if order["log"] else os.fdopen(os.dup(2), "ab") as log:
        child = subprocess.Popen(
            order["command"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=order["directory"],
            env=order["environment"],
            **order["account"],
        )
    print(child.pid, flush=True)

    def watch() -> None:
        while os.read(0, 1):
            pass
        _stop(child, order["signals"], order["grace_s"])

    threading.Thread(target=watch, daemon=True).start()
    code = child.wait()
    _bury_orphans()
    return code


def _adopt_orphans() -> None:
    """What a killed server leaves behind becomes our child instead of the system's (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _bury_orphans() -> None:
    for orphan in family(os.getpid())[1:]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main() & 0xFF)
