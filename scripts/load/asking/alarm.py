"""Wake at a moment, to some ten microseconds where the system can.

Loops count their timers in milliseconds: half of one in every latency would be the generator's.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator

_CLOCK_MONOTONIC, _ABSOLUTE = 1, 1  # linux/time.h, linux/timerfd.h

#: The moment of everything here, the same for all processes of this machine.
now_s = time.monotonic


class _Moment(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("s", ctypes.c_long),
        ("ns", ctypes.c_long),
    )


class Alarm:
    """Calls ``ring`` once for each ``set``; at once, soon, for what is past."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def set(self, at_s: float) -> None:
        self._timer = self._loop.call_later(max(0.0, at_s - now_s()), self._ring)

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()


class _KernelAlarm(Alarm):
    """A timer of the kernel's that becomes readable like a socket."""

    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__(ring)
        self._library = ctypes.CDLL(None, use_errno=True)
        self._file = self._library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._loop.add_reader(self._file, self._rings)

    def set(self, at_s: float) -> None:
        whole = int(at_s)
        # Zero would mean never.
        moment = _Moment(0, 0, whole, max(1, int((at_s - whole) * 1e9)))
        self._library.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(moment), None)

    def close(self) -> None:
        self._loop.remove_reader(self._file)
        os.close(self._file)

    def _rings(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._file, 8)
            self._ring()


@contextlib.contextmanager
def alarm(ring: Callable[[], None]) -> Iterator[Alarm]:
    made = _KernelAlarm(ring) if sys.platform == "linux" else Alarm(ring)
    try:
        yield made
    finally:
        made.close()
