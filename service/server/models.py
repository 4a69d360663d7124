"""What a worker serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Applications:
    """The applications of one worker, not yet started; ``public`` starts first and ends first."""

    public: web.Application
    internal: web.Application
    #: Called once when the replica is to leave: from then on it says that it is not ready.
    drain: Callable[[], None]
    #: Called once when this worker is to leave, alone or with its replica: who only waits for news
    #: is to be answered.
    release: Callable[[], None] = lambda: None


Factory = Callable[[Settings], Awaitable[Applications]]
