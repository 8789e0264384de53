"""Handing sockets to the network process, beside the pipe: one datagram each, with the number of the tunnel it is for."""

from __future__ import annotations

import array
import socket
import struct
from typing import Final

_NUMBER: Final = struct.Struct(">q")
_ROOM: Final = socket.CMSG_SPACE(4)


def hand_over(beside: socket.socket, number: int, end: socket.socket) -> bool:
    """Sends one, and leaves it open here. False: the process is gone, or takes none now."""
    try:
        socket.send_fds(beside, [_NUMBER.pack(number)], [end.fileno()])
    except OSError:
        return False
    return True


def receive(beside: socket.socket) -> tuple[int, socket.socket | None] | None:
    """The next one: its number, and the socket unless this process has no descriptor left for it. None: the other side has closed.

    Raises:
        BlockingIOError: there is none now.
    """
    data, ancillary, _, _ = beside.recvmsg(_NUMBER.size, _ROOM, socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    fds = array.array("i")
    for _, _, content in ancillary:
        fds.frombytes(content)
    (number,) = _NUMBER.unpack(data)
    return number, socket.socket(fileno=fds[0]) if fds else None
