"""A set of charges as the one script call that decides it, packed once and used again.

Like requests (the same charges) share a call: it asks for several at once, and each of those
granted gets the decision it would have got alone, in order of arrival.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from service.admission.models import Charge, Decision, LimitState
from service.store.line import pack

if TYPE_CHECKING:
    from service.store.scripts import Script

#: Calls kept packed (about 1 KB each); making one anew costs 10 µs.
MOST_CALLS = 8192


class Call:
    """One EVALSHA of take.lua, but for how many ask and, where the server needs it, the time."""

    __slots__ = ("_command", "_head", "_tail", "charges", "keys", "owners")

    def __init__(self, script: Script, charges: tuple[Charge, ...]) -> None:
        self.charges = charges
        self.keys = [charge.key for charge in charges]
        if len(set(self.keys)) < len(self.keys):
            # The script reads before it writes: the second charge would undo the first.
            raise ValueError("the same bucket is charged twice in one decision")
        self.owners = len({charge.subject for charge in charges})
        fixed = [term for charge in charges for term in charge.terms]
        parts = 3 + len(self.keys) + 2 + len(fixed)
        self._head = b"*%d\r\n" % parts + _bare("EVALSHA", script.sha, len(self.keys), *self.keys)
        self._tail = _bare(*fixed)
        self._command = self._packed(1, 0)

    def command(self, asked: int, now_us: int) -> bytes:
        """For ``asked`` requests; ``now_us`` is 0 where the script reads the clock itself."""
        return self._command if asked == 1 and not now_us else self._packed(asked, now_us)

    def decisions(self, reply: Sequence[int], asked: int) -> list[Decision]:
        """One for each request that asked, in order: those granted, then those denied."""
        granted = reply[1]
        made = [self._decision(reply, number, True) for number in range(1, granted + 1)]
        if asked > granted:
            made += [self._decision(reply, granted, False)] * (asked - granted)
        return made

    def outlook(self, reply: Sequence[int]) -> Decision:
        """What the next request would be told, of a reply to none."""
        denied = self._decision(reply, 0, False)
        return denied if denied.violated else denied._replace(allowed=True)

    def _decision(self, reply: Sequence[int], number: int, allowed: bool) -> Decision:
        """After ``number`` were granted: for the last of them, or for one that is not."""
        now_us = reply[0]
        states = []
        place = 2
        for charge in self.charges:
            room = reply[place + 1]
            ahead_us = reply[place] + min(number, room) * charge.price_us - now_us
            place += 2
            wait_us = 0 if allowed and number <= room else max(0, ahead_us - charge.headroom_us)
            left_us = charge.capacity_us - ahead_us
            remaining = left_us // charge.interval_us if left_us > 0 else 0
            states.append(
                LimitState(charge.policy, remaining, -(-wait_us // 1000), -(-ahead_us // 1000))
            )
        return Decision(allowed, tuple(states), False, now_us)

    def arrivals(self, reply: Sequence[int]) -> list[tuple[str, int]]:
        """Each enforced bucket and by how many µs its arrival time is now ahead of the server's."""
        now_us, granted = reply[0], reply[1]
        return [
            (
                charge.key,
                reply[place] + min(granted, reply[place + 1]) * charge.price_us - now_us,
            )
            for place, charge in zip(range(2, len(reply), 2), self.charges, strict=True)
            if not charge.policy.shadow
        ]

    def _packed(self, asked: int, now_us: int) -> bytes:
        return self._head + _bare(now_us, asked) + self._tail

    def __repr__(self) -> str:
        return f"<Call {' '.join(self.keys)}>"


class Calls:
    """The calls of late, by their charges."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._kept: OrderedDict[tuple[Charge, ...], Call] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, charges: tuple[Charge, ...]) -> Call:
        """Raises ValueError where one bucket is charged twice."""
        call = self._kept.get(charges)
        if call is None:
            if len(self._kept) >= MOST_CALLS:
                self._kept.popitem(last=False)
            call = self._kept[charges] = Call(self._script, charges)
        return call


def _bare(*parts: str | int) -> bytes:
    """Parts of a command without its first line."""
    return pack(*parts).partition(b"\r\n")[2]
