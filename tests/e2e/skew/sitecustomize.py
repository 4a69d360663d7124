"""Python runs this first in a process whose PYTHONPATH names this folder: its wall clock is off.

``time.time`` and its kin are; the monotonic clocks are not, as with any clock set wrong.
"""

import os
import time

_SKEW_S = float(os.environ.get("CLOCK_SKEW_S", "0"))
_SKEW_NS = int(_SKEW_S * 1_000_000_000)
_time, _time_ns, _gettime = time.time, time.time_ns, time.clock_gettime

time.time = lambda: _time() + _SKEW_S
time.time_ns = lambda: _time_ns() + _SKEW_NS
time.clock_gettime = lambda clock: _gettime(clock) + _SKEW_S * (clock == time.CLOCK_REALTIME)
