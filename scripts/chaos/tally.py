"""What a drill counted while it ran."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    #: By what was killed.
    kills: Counter[str] = field(default_factory=Counter)
    #: Requests without a good answer: the problem's code, or the transport's failure.
    refusals: Counter[str] = field(default_factory=Counter)
    #: Answers no client of ours should get, whatever dies.
    unexpected: Counter[str] = field(default_factory=Counter)
    #: From a purchaser's first request to the acceptance of the job, and to its result.
    accepted_after_s: list[float] = field(default_factory=list)
    finished_after_s: list[float] = field(default_factory=list)
