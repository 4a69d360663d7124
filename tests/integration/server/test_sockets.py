"""Closing a shared listener: who has begun to connect is taken, who has not is not."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from scripts.loopback import LOOPBACK
from service.errors import CannotListen
from service.server import sockets

ONLY_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's packet filter")


def listening() -> socket.socket:
    listener = sockets.bound("PORT", LOOPBACK, 0)
    listener.listen(sockets.BACKLOG)
    return listener


def connect(listener: socket.socket, *, timeout_s: float = 5.0) -> socket.socket:
    return socket.create_connection(listener.getsockname(), timeout_s)


def test_bound_address_takes_nobody_yet() -> None:
    with (
        sockets.bound("PORT", LOOPBACK, 0) as listener,
        pytest.raises(ConnectionRefusedError),
    ):
        connect(listener)


def test_address_that_somebody_listens_on_is_refused_with_the_variable_to_set() -> None:
    with listening() as taken, pytest.raises(CannotListen, match="TOLLGATE_SERVER__PORT"):
        sockets.bound("PORT", LOOPBACK, taken.getsockname()[1])


async def test_returns_only_when_all_who_had_connected_are_accepted() -> None:
    with listening() as listener, connect(listener), connect(listener):
        taking = asyncio.create_task(sockets.take_the_last(listener))
        await asyncio.sleep(3 * sockets.HANDSHAKE_S)  # time enough to return too early
        assert not taking.done()
        listener.accept()[0].close()
        await asyncio.sleep(0)
        assert not taking.done()
        listener.accept()[0].close()
        await asyncio.wait_for(taking, 5)


async def test_gives_up_when_nobody_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MOST_ACCEPTING_S", 0.1)
    with listening() as listener, connect(listener):
        await asyncio.wait_for(sockets.take_the_last(listener), 5)


@ONLY_LINUX
async def test_who_comes_meanwhile_finds_the_port_closed_instead_of_being_cut_off() -> None:
    with listening() as listener:
        before = connect(listener)
        accepted, _ = listener.accept()
        await sockets.take_the_last(listener)
        with pytest.raises(TimeoutError):
            connect(listener, timeout_s=0.2)
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()
        before.sendall(b"old connections go on")
        assert accepted.recv(100) == b"old connections go on"
        before.close()
        accepted.close()
        late = asyncio.create_task(asyncio.to_thread(connect, listener))
        await asyncio.sleep(0.1)  # its packet has been dropped, it will try again
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            await late
