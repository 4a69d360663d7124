"""The same question to several servers at once: one that is silent must not hold up the others."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from redis.exceptions import RedisError

from service.tasks import end

_Answer = TypeVar("_Answer")


async def poll(
    questions: Sequence[Coroutine[Any, Any, _Answer]],
    *,
    limit_s: float,
    enough: Callable[[list[_Answer]], bool],
) -> list[_Answer]:
    """The answers there are once they are ``enough``, all have spoken, or the time is up.

    Raises the last failure where there is no answer at all.
    """
    asking = {asyncio.ensure_future(question) for question in questions}
    left, answers, failure = set(asking), list[_Answer](), None
    try:
        async with asyncio.timeout(limit_s):
            while left and not enough(answers):
                done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    try:
                        answers.append(task.result())
                    except (RedisError, OSError, TimeoutError) as error:
                        failure = error
    except TimeoutError as error:
        failure = error
    finally:
        await end(*asking)
    if not answers:
        raise failure or TimeoutError
    return answers
