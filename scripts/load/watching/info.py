"""What Redis tells of itself: commands, bytes, memory, processor time; without our own asking."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from scripts.running import ROOT

_SECTIONS: Final = ("stats", "memory", "cpu", "commandstats")
_TIMEOUT_S: Final = 2.0
_CALL: Final = re.compile(r"redis\.p?call\(\s*[\"']([A-Za-z]+)[\"']")
_CALLS: Final = re.compile(r"cmdstat_([^:]+):calls=(\d+)")


@dataclass(frozen=True, slots=True)
class Told:
    """Totals of the server, as it answered."""

    #: As clients sent them; what runs inside of scripts is not counted.
    commands: int
    #: Both directions.
    bytes: int
    used_memory: int
    cpu_s: float


class Server:
    """One connection; ``look`` gives None while nobody answers."""

    def __init__(self, url: str) -> None:
        self._client: Redis = Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S
        )
        # As it came: its length is what our asking cost.
        self._client.set_response_callback("INFO", _as_it_came)
        self._own_bytes = 0

    async def look(self) -> Told | None:
        try:
            answer: bytes = await self._client.execute_command(  # type: ignore[no-untyped-call]
                "INFO", *_SECTIONS
            )
        except (RedisError, OSError, TimeoutError):
            return None
        told = read_info(answer.decode(), own_bytes=self._own_bytes)
        # Counted when the answer has been sent: with the next one.
        self._own_bytes += len(answer) + sum(map(len, _SECTIONS)) + 64
        return told

    async def close(self) -> None:
        await self._client.aclose()


def _as_it_came(response: Any, **_options: Any) -> Any:
    return response


def read_info(text: str, *, own_bytes: int = 0) -> Told:
    """The answer to INFO with stats, memory, cpu and commandstats."""
    said = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    inside = inside_scripts() | {"info"}
    calls = ((name, int(number)) for name, number in _CALLS.findall(text))
    return Told(
        commands=sum(number for name, number in calls if name.split("|")[0] not in inside),
        bytes=int(said["total_net_input_bytes"]) + int(said["total_net_output_bytes"]) - own_bytes,
        used_memory=int(said["used_memory"]),
        cpu_s=float(said["used_cpu_user"]) + float(said["used_cpu_sys"]),
    )


@cache
def inside_scripts() -> frozenset[str]:
    """Names of the commands that our scripts run; the service hardly ever sends one by itself."""
    scripts = (ROOT / "service").rglob("*.lua")
    return frozenset(name.lower() for file in scripts for name in _CALL.findall(file.read_text()))
