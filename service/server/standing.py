"""What a worker tells its master (starting, ready, tired) and it the worker: two shared bytes."""

from __future__ import annotations

import mmap

_STARTING, _READY, _TIRED = 0, 1, 2
_STATE, _ORDER = 0, 1
_WITH_REPLICA = 1


class Standing:
    """Made by the master before it forks the worker; each writes one byte and reads both."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, 2)
        #: For the master alone: it has been told to leave; it has ended and is cleaned up after.
        self.told = False
        self.gone = False

    def __repr__(self) -> str:
        return f"<Standing {('starting', 'ready', 'tired')[self._bytes[_STATE]]}>"

    @property
    def ready(self) -> bool:
        """It serves, tired or not."""
        return self._bytes[_STATE] != _STARTING

    @property
    def tired(self) -> bool:
        """It serves, and asks to be replaced."""
        return self._bytes[_STATE] == _TIRED

    def serve(self) -> None:
        self._bytes[_STATE] = _READY

    def tire(self) -> None:
        self._bytes[_STATE] = _TIRED

    @property
    def with_replica(self) -> bool:
        """Whether the whole replica leaves, not only this worker."""
        return self._bytes[_ORDER] == _WITH_REPLICA

    def leave_with_replica(self) -> None:
        self._bytes[_ORDER] = _WITH_REPLICA
