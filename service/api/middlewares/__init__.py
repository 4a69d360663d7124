"""The steps every request takes, and why they stand in this order (docs/architecture.md).

Outermost first: ``context`` must see everything; the counting sees the final status and one value
for each client; ``errors`` turns a 504 of ``deadline`` into a problem like any other; a slow store
of ``admission`` is inside the budget, and nothing of a denied request is parsed.

The fast way takes them all in one coroutine round each handler (``way``, ``service.api.doorway``),
the plain way in five nested middlewares; both call the same functions, and ``tests/api`` holds both
to the same promises. One thing comes earlier in the fast way: a request that is known to find no
room is refused, or turned away by the overload protection, before it gets a budget.
"""

from __future__ import annotations

from aiohttp.typedefs import Middleware

from service.api.middlewares.admission import admission
from service.api.middlewares.context import context
from service.api.middlewares.deadline import deadline
from service.api.middlewares.errors import errors

__all__ = ["in_order", "in_order_internal"]


def in_order(counting: Middleware) -> tuple[Middleware, ...]:
    """The plain way of a request on the public listener."""
    return (context, counting, errors, deadline, admission)


def in_order_internal() -> tuple[Middleware, ...]:
    """The way on the internal listener: uncounted and unlimited."""
    return (context, errors, deadline)
