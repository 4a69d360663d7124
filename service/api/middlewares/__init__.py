"""The steps every request takes, and why they stand in this order (style §4.5 has the reasons).

Outermost first: ``context`` must see everything; the exporter sees the final status and one value
for each client; ``errors`` turns a 504 of ``deadline`` into a problem like any other; a slow store
of ``admission`` is inside the budget, and nothing of a denied request is parsed.
"""

from __future__ import annotations

from aiohttp.typedefs import Middleware

from service.api.middlewares.admission import admission
from service.api.middlewares.context import context
from service.api.middlewares.deadline import deadline
from service.api.middlewares.errors import errors

__all__ = ["in_order", "in_order_internal"]


def in_order(counting: Middleware) -> tuple[Middleware, ...]:
    """The whole way of a request on the public listener."""
    return (context, counting, errors, deadline, admission)


def in_order_internal() -> tuple[Middleware, ...]:
    """The way on the internal listener: uncounted and unlimited."""
    return (context, errors, deadline)
