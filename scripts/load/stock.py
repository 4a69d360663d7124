"""Jobs bought before a run, for clients that ask how theirs are doing."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from scripts.load.fleet import Target
from scripts.load.principals import By, address

FLOW = "text-summary+free"
_INPUT = {"text": "Bees make honey. Bees live in hives. A hive has one queen."}
#: So many for one principal: less than the burst of any sensible limit.
_EACH = 5
#: Apart from all clients of a run: no scenario has so many.
_FIRST = 8_000_000
_TIMEOUT_S, _PATIENCE_S = 30.0, 30.0
#: Any change of its status ends a wait: then there is a pause before the next look.
_LOOK_S = 0.1


class StockFailed(Exception):
    """The jobs could not be bought; the message says why."""


def stocked(target: Target, by: By, count: int) -> list[str]:
    """The ids of so many free jobs, all complete; blocks for a second or a few."""
    jobs = [_bought(target, by, _FIRST + number // _EACH) for number in range(count)]
    deadline_s = time.monotonic() + _PATIENCE_S
    for number, job in enumerate(jobs):
        path = f"/{FLOW}/status?job_id={job}&wait=5"
        while _ask(target, by, _FIRST + number // _EACH, "GET", path)["status"] != "completed":
            if time.monotonic() > deadline_s:
                raise StockFailed(f"job {job} was not complete in time")
            time.sleep(_LOOK_S)
    return jobs


def _bought(target: Target, by: By, principal: int) -> str:
    body = {"input_data": _INPUT}
    fields = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(8)}
    path = f"/{FLOW}/start_job"
    return str(_ask(target, by, principal, "POST", path, json.dumps(body), fields)["id"])


def _ask(
    target: Target,
    by: By,
    principal: int,
    method: str,
    path: str,
    body: str | None = None,
    fields: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    name = address(principal, by)
    source = (name, 0) if by == "source" else None
    headers = {**(fields or {}), **({"X-Forwarded-For": name} if by == "forwarded" else {})}
    connection = http.client.HTTPConnection(
        target.host, target.port, timeout=_TIMEOUT_S, source_address=source
    )
    with closing(connection):
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            document: dict[str, Any] = json.loads(answer.read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise StockFailed(f"{method} {path}: {error!r}") from error
    if answer.status != http.client.OK:
        raise StockFailed(f"{method} {path} was answered {answer.status}: {document}")
    return document
