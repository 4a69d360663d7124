"""The same work on FastAPI and slowapi with Redis storage, as their own manuals have it.

Run by the interpreter of ``.venv-bench``, which holds nothing of ours: port, Redis URL, limit.
"""

# The types of what is imported exist in .venv-bench alone.
# mypy: disable-error-code="import-not-found, untyped-decorator"

import sys

import uvicorn
from fastapi import FastAPI, Request
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

_ANSWER = {"status": "ok", "version": "0.1.0", "breaker": "closed"}


def make_app(redis_url: str, limit: str) -> FastAPI:
    # headers_enabled stays off, as it is by default: each header would cost two more round trips.
    limiter = Limiter(key_func=get_remote_address, storage_uri=redis_url)
    app = FastAPI()
    app.state.limiter = limiter
    app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

    @app.get("/health")
    @limiter.limit(limit)
    async def health(request: Request) -> dict[str, str]:
        return _ANSWER

    return app


if __name__ == "__main__":
    _, port, url, allowed = sys.argv
    uvicorn.run(
        make_app(url, allowed),
        host="127.0.0.1",
        port=int(port),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
