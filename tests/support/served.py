"""A running server as its tests see it: a master, its workers, their sockets."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from scripts.keeper import parents
from scripts.processes import running
from tests.support.waiting import until

#: Long enough for a loaded machine; nothing here measures time.
PATIENCE_S = 40.0


@dataclass
class Served:
    process: subprocess.Popen[bytes]
    folder: Path
    public: str = ""
    internal: str = ""

    @property
    def text(self) -> str:
        return (self.folder / "output").read_text()

    def events(self, name: str) -> list[dict[str, Any]]:
        # A line that is just being written is looked at the next time.
        lines = [line for line in self.text.splitlines(keepends=True) if line.endswith("\n")]
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [event for event in events if event["event"] == name]

    def expect_successors_first(self, *, workers: int) -> None:
        """Whenever one left there were as many as should be without it."""
        names = re.findall(r'"event":\s*"(worker_ready|worker_leaving)"', self.text)
        serving = 0
        for name in names:
            serving += 1 if name == "worker_ready" else -1
            assert name == "worker_ready" or serving >= workers, names
        assert "worker_leaving" in names

    def workers(self) -> set[int]:
        living = {process.pid for process in running()}
        return {pid for pid, parent in parents() if parent == self.process.pid} & living

    def counting(self) -> set[int]:
        """The workers, living or not, whose own files of counts are there."""
        files = (self.folder / "metrics").glob("*/*.db")
        return {int(pid) for file in files if (pid := file.stem.rpartition("_")[2]).isdigit()}

    def configure(self, **server: object) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in server.items()]
        (self.folder / "tollgate.toml").write_text("\n".join(["[server]", *lines]))

    async def get(self, url: str) -> tuple[int, str]:
        """On a connection of its own."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(url, timeout=aiohttp.ClientTimeout(PATIENCE_S)) as answer,
        ):
            return answer.status, await answer.text()

    async def status(self, url: str) -> int:
        """0 where nobody takes the connection."""
        try:
            return (await self.get(url))[0]
        except aiohttp.ClientConnectorError:
            return 0

    async def until_status(self, url: str, expected: int) -> None:
        async def answers() -> bool:
            return await self.status(url) == expected

        await until(answers, what=f"{expected} from {url}")

    async def slow_request(self) -> asyncio.Task[tuple[int, str]]:
        """One that a worker has begun to work on, and does until it may end."""
        task = asyncio.create_task(self.get(f"{self.public}/slow"))
        await until((self.folder / "slow-began").exists)
        return task

    def let_slow_end(self) -> None:
        (self.folder / "slow-may-end").touch()

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, PATIENCE_S)


Start = Callable[..., AbstractAsyncContextManager[Served]]
