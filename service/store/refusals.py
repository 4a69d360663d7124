"""What an error that a server answered proves: a command that was refused has not run.

Only such a command may be sent again, and only elsewhere; where there was no answer, nothing is
known. A script is refused at its first write, so it has changed nothing either.
"""

from __future__ import annotations

import re

from redis.exceptions import (
    AskError,
    BusyLoadingError,
    ClusterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

#: Redis before 7 wraps what a script was refused in a text of its own.
_WORDS = re.compile(r"(?:^|[ -])(READONLY|NOREPLICAS|MISCONF|BUSY|MASTERDOWN|LOADING|OOM) ")
#: What a script may not do in the name of its login, and commands that a server has not got.
_FORBIDDEN = re.compile(r"ACL failure in script|can't run this command|nknown (Redis )?command ")
_UNFIT = (BusyLoadingError, ClusterDownError, OutOfMemoryError, ReadOnlyError)


def is_redirect(reply: object) -> bool:
    """MOVED, ASK or TRYAGAIN: the server is well, the key is (partly) elsewhere."""
    # MOVED is an AskError to redis-py.
    return isinstance(reply, AskError | TryAgainError)


def is_unfit(reply: object) -> bool:
    """The server is there and can not serve now; another one might, or itself later.

    READONLY (a replica, perhaps since a moment ago), LOADING, CLUSTERDOWN, MASTERDOWN, BUSY, and
    what forbids writing: OOM, NOREPLICAS, MISCONF.
    """
    if isinstance(reply, _UNFIT):
        return True
    return isinstance(reply, ResponseError) and _WORDS.search(str(reply)) is not None


def is_forbidden(reply: object) -> bool:
    """The server is there and will not do this for this login, until somebody mends that.

    A script may have done a part of its work before: unlike an unfit server's, such a refusal
    proves nothing, and nothing is sent again.
    """
    if isinstance(reply, NoPermissionError):
        return True
    return isinstance(reply, ResponseError) and _FORBIDDEN.search(str(reply)) is not None


def is_read_only(reply: object) -> bool:
    """What this connection leads to is no primary (any more)."""
    return isinstance(reply, ReadOnlyError) or (
        isinstance(reply, ResponseError) and "READONLY " in str(reply)
    )
