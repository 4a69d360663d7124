"""Who is turned away first, and how this worker stands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal


class Priority(IntEnum):
    """Kinds of requests, those that are turned away first before those that are last."""

    SALE = 0
    INPUT = 1
    OTHER = 2
    STATUS = 3
    READ = 4


#: By route class; all others are OTHER. What is counted against no one (probes) is never asked.
PRIORITIES: Mapping[str, Priority | None] = {
    # A run not yet bought is lost to nobody; it can be bought a second later, or elsewhere.
    "start_job": Priority.SALE,
    "provide_input": Priority.INPUT,
    "status": Priority.STATUS,
    # From memory: refusing them would cost nearly as much as answering them.
    "flows": Priority.READ,
    "input_schema": Priority.READ,
    "demo": Priority.READ,
    "availability": Priority.READ,
    # Rendered once a second: a refusal would cost more than the answer does.
    "health": None,
}

#: The part of a limit that each kind may fill, all kinds counted together. More than one: of what
#: takes hardly any time there are many at once only because they wait for what takes much.
SHARES: Mapping[Priority, float] = {
    Priority.SALE: 0.5,
    Priority.INPUT: 0.7,
    Priority.OTHER: 0.7,
    Priority.STATUS: 1.0,
    Priority.READ: 2.0,
}
#: Those that need a database connection each. Statuses are read together or known already, other
#: reads have a lane of their own.
OF_DATABASE = frozenset({Priority.SALE, Priority.INPUT})

#: What there is too little of.
Short = Literal["worker", "database"]


def priority_of(route_class: str) -> Priority | None:
    """The kind of a request, by the class of its route; None: never turned away."""
    return PRIORITIES.get(route_class, Priority.OTHER)


@dataclass(frozen=True, slots=True)
class OverloadStatus:
    """For operators; a limit is None while all are let in."""

    in_flight: int
    limit: int | None
    queue_delay_ms: float
    database_limit: int | None
    connection_delay_ms: float
    shedding: bool
