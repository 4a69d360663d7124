"""A primary, its replica and three sentinels that watch them, on loopback."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import RedisError, ResponseError

from tests.support.redises import MadeServer, Make
from tests.support.servers import scratch_directory
from tests.support.waiting import eventually

SERVICE = "limits"
#: Down for so long, a primary is replaced.
DOWN_AFTER_S = 0.5
#: Where a busy machine let the replica pass for dead as well, it is tried again after twice this.
FAILOVER_TIMEOUT_S = 2.0
_READY_WITHIN_S = 60.0


class SentinelServer(MadeServer):
    """One sentinel; it writes what it learns into its configuration."""

    def __init__(self, directory: Path, make: Make, primary_port: int) -> None:
        super().__init__(directory, make)
        self._primary_port = primary_port

    def command(self) -> list[str]:
        program, *_ = super().command()
        words = self._encryption()
        encryption = [
            f"{name.removeprefix('--')} {value}\n"
            for name, value in zip(words[::2], words[1::2], strict=True)
        ]
        file = self.data / "sentinel.conf"
        if not file.exists():
            file.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.data}\n"
                f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary_port} 2\n"
                f"sentinel down-after-milliseconds {SERVICE} {round(DOWN_AFTER_S * 1000)}\n"
                f"sentinel failover-timeout {SERVICE} {round(FAILOVER_TIMEOUT_S * 1000)}\n"
                + "".join(encryption)
            )
            self.account.own(file)
        return [program, str(file), "--sentinel"]


class WatchedPair:
    """``servers``: the primary at first, and its replica."""

    def __init__(self, stack: ExitStack, home: Path, make: Make, *more: str) -> None:
        self._make = make
        quick = ("--repl-diskless-sync-delay", "0", *more)
        self.servers = [MadeServer(home / f"server-{n}", make, *quick) for n in range(2)]
        for server in self.servers:
            stack.enter_context(server)
        self.client(1).replicaof("127.0.0.1", self.servers[0].told_port)
        self.sentinels = [
            SentinelServer(home / f"sentinel-{n}", make, self.servers[0].told_port)
            for n in range(3)
        ]
        for sentinel in self.sentinels:
            stack.enter_context(sentinel)
        self._hurry()
        self.await_health()

    @property
    def url(self) -> str:
        scheme = "rediss" if self._make.tls else "redis"
        hosts = ",".join(f"127.0.0.1:{sentinel.told_port}" for sentinel in self.sentinels)
        return f"{scheme}+sentinel://{hosts}/{SERVICE}"

    def client(self, number: int) -> Any:
        return _asked(self.servers[number])

    def command(self, sentinel: SentinelServer, *words: str | int) -> Any:
        return _asked(sentinel).execute_command(*words)

    def primary(self) -> int:
        """The number of the server that most sentinels name."""
        ports = []
        for sentinel in self.sentinels:
            if sentinel.alive:
                named = _asked(sentinel)
                ports.append(named.sentinel_get_master_addr_by_name(SERVICE)[1])
        port = max(ports, key=ports.count)
        return next(n for n, server in enumerate(self.servers) if server.told_port == port)

    def await_takeover(self, before: int) -> int:
        eventually(lambda: self.primary() != before, within_s=_READY_WITHIN_S)
        return self.primary()

    def fail_over(self) -> int:
        """The polite way; returns the number of the new primary."""
        before = self.primary()
        asked = _asked(self.sentinels[0])

        def begun() -> bool:
            # Refused while one is under way, or the replica is not known to be well.
            with contextlib.suppress(ResponseError):
                asked.execute_command("SENTINEL", "FAILOVER", SERVICE)
                return True
            return False

        eventually(begun, within_s=_READY_WITHIN_S)
        return self.await_takeover(before)

    def heal(self) -> None:
        for server in (*self.servers, *self.sentinels):
            server.resume()
            server.start()
        self._hurry()
        self.await_health()

    def await_health(self) -> None:
        """One primary, one replica that has caught up, and three sentinels that know both."""

        def healthy() -> bool:
            try:
                primary = self.primary()
                return (
                    self.client(primary).role()[0] == b"master"
                    and self.client(1 - primary).role()[3] == b"connected"
                    and all(map(self._knows, self.sentinels))
                )
            except (RedisError, IndexError, TypeError, ValueError):
                return False

        eventually(healthy, within_s=_READY_WITHIN_S)

    def _hurry(self) -> None:
        """Look every fraction of a second; a restarted sentinel has forgotten it."""
        for sentinel in self.sentinels:
            _asked(sentinel).execute_command(
                *("SENTINEL", "DEBUG", "publish-period", "200", "info-period", "300"),
                *("ask-period", "200", "ping-period", "100"),
            )

    def _knows(self, sentinel: SentinelServer) -> bool:
        asked = _asked(sentinel)
        seen = asked.sentinel_master(SERVICE)
        [replica] = asked.sentinel_slaves(SERVICE)
        return (
            replica["flags"] == "slave"
            and replica["master-link-status"] == "ok"
            and int(replica["slave-repl-offset"]) > 0
            and seen["num-other-sentinels"] == len(self.sentinels) - 1
            and seen["num-slaves"] == 1
            and seen["flags"] == "master"
        )


def _asked(server: MadeServer) -> Any:
    return redis.Redis(port=server.port)


@contextmanager
def watched_pair(make: Make, *more: str) -> Iterator[WatchedPair]:
    """``more``: arguments of the two servers."""
    with ExitStack() as stack:
        yield WatchedPair(stack, stack.enter_context(scratch_directory()), make, *more)
