"""The sockets all workers of a replica share: bound by the master, listening once one can serve.

Until then connecting is refused, and a balancer asks elsewhere instead of waiting for a start.
Closing loses nobody: on Linux new handshakes are held off first, those under way come to their end
and are accepted; who was held off tries again a second later and finds the port closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import select
import socket
import struct
import sys
import time

from service.errors import CannotListen

#: Connections that wait to be accepted while all workers are busy.
BACKLOG = 1024
#: For handshakes under way: some round trips to a balancer near by.
HANDSHAKE_S = 0.02
#: Taking what waits in the queue takes a tick each; nobody waits longer for it.
MOST_ACCEPTING_S = 2.0
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_FLAGS, _SYN, _ACK = 13, 0x02, 0x10  # of the TCP header
#: For the kernel's packet filter: drop a SYN without ACK, let all else pass.
_NO_SYN = (
    (0x30, 0, 0, _FLAGS),  # load the byte
    (0x54, 0, 0, _SYN | _ACK),  # and-mask
    (0x15, 0, 1, _SYN),  # if equal go on, else skip one
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


def bound(variable: str, host: str, port: int) -> socket.socket:
    """A socket on this address, not listening yet. Raises CannotListen."""
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise CannotListen(
            f"cannot listen on {shown}: {error.strerror or error}"
            f" (set TOLLGATE_SERVER__{variable} to another port)"
        ) from error
    listener.setblocking(False)
    return listener


async def take_the_last(listener: socket.socket) -> None:
    """Let no new connection begin, and return when all that have begun are accepted.

    For good, and for every process that shares the socket. The caller's loop accepts meanwhile.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a kernel without filters: a few µs of danger remain
            _hold_off(listener)
            await asyncio.sleep(HANDSHAKE_S)
    give_up_s = time.monotonic() + MOST_ACCEPTING_S
    while _waited_for(listener) and time.monotonic() < give_up_s:  # noqa: ASYNC110
        await asyncio.sleep(0)


def _hold_off(listener: socket.socket) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in _NO_SYN)
    kept = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(_NO_SYN), ctypes.addressof(kept))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def _waited_for(listener: socket.socket) -> bool:
    looking = select.poll()
    looking.register(listener, select.POLLIN)
    return any(event & select.POLLIN for _, event in looking.poll(0))
