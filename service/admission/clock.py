"""Where the scripts get the time: from Redis itself, inside the script, unless it refuses.

Some servers forbid TIME in scripts. For them the time is asked for just before, in the same
connection, and handed in; a decision is then made at a time a round trip old. That never gives
tokens early, but lets a window hold up to rate × one round trip more than it should.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from redis.exceptions import ResponseError

from service.store.line import pack

log = structlog.get_logger()

#: What servers answer a script that asks for the time (or that writes after having asked).
_REFUSALS = ("not allowed from script", "non deterministic", "non-deterministic")
_TIME = pack("TIME")


class ScriptClock:
    """Found out once for a limiter, from the first refusal: the refused script has not run."""

    def __init__(self) -> None:
        self.handed_in = False

    def refused(self, reply: object) -> bool:
        """Is this a script's failure to ask for the time?"""
        if not isinstance(reply, ResponseError):
            return False
        text = str(reply).lower()
        if not any(refusal in text for refusal in _REFUSALS):
            return False
        if not self.handed_in:
            self.handed_in = True
            log.warning("store_refuses_time_in_scripts", reply=str(reply)[:200])
        return True

    async def now_us(self, exchange: Callable[[list[bytes]], Awaitable[list[Any]]]) -> int | None:
        """The first argument of every script: 0 where it asks for itself; None: no answer."""
        if not self.handed_in:
            return 0
        (reply,) = await exchange([_TIME])
        if not isinstance(reply, list):
            return None
        return int(reply[0]) * 1_000_000 + int(reply[1])
