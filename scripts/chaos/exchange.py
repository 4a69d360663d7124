"""One HTTP exchange with a program on this machine."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Mapping
from typing import Any

from scripts.loopback import LOOPBACK

TIMEOUT_S = 30.0


def exchange(
    port: int,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float = TIMEOUT_S,
) -> tuple[int, Any]:
    """Status and JSON; raises OSError where nobody answers in time, or not in HTTP."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=timeout_s)
    with contextlib.closing(connection):
        content = None if body is None else json.dumps(body)
        try:
            connection.request(method, path, content, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read() or b"null")
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(f"{method} {path} on port {port}: {error!r}") from error
