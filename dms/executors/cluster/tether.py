"""The tether: what leads from a node into the runs on its cluster, and out of them to siblings. The words of it, and how both sides know each other.

::

    NODE                                              a machine of the cluster
    tethers ◀────────── Tied: the tether itself ────  tethered, in the runner
       │   Lead: to what in the run  ──────────────▶     │ Run.connect, as a node does
       ◀──────────────── Led: a connection there ────    │
       ◀──────── Calls: a connection to a sibling ───    │ keeper

A cluster's machines may not be reached from outside, and nothing of ours listens on them: the runner connects, to the node, at the address that its
owner has named (`executors.cluster_address`). Where it is, and a key, are in the file `tether` in the node's own place of the shared directory. A
node that is started again writes both anew, and runners tie themselves to it.

Both sides show that they can read that file, by a keyed digest over what both have made up for this connection; so neither another user of the
cluster nor one in its network is let in, or taken for the node. What flows is not encrypted, as what both sides say by files is not: who can read
along in the cluster's network, or on its disk, is who administers its machines.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from dms_proto.tunnels import MAX_OPENING, Order
from dms_proto.units import format_count

SHOW_S: Final = 10.0
"""Seconds in which both sides have shown who they are, and in which an order is answered."""
AGAIN_S: Final = 0.1
"""Seconds before the next try, where the node has no room."""
FILE: Final = "tether"
MAX_WORDS: Final = 2 * MAX_OPENING
"""Bytes of one thing that is said."""
KEY_BYTES: Final = 32
_LENGTH: Final = struct.Struct(">I")
_ALIVE: Final = ((socket.TCP_KEEPIDLE, 15), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3))
"""Half a minute after a machine is gone, what led there has ended."""


class Place(msgspec.Struct, frozen=True):
    """Where a node is reached by its runners. Its `repr` does not show the key.

    Attributes:
        host: an address.
        port: there.
        key: by which both know each other.
    """

    host: str
    port: int
    key: bytes

    def __repr__(self) -> str:
        return f"Place({self.host}, {self.port})"


class Tied(msgspec.Struct, frozen=True, tag=True):
    """A runner says: orders for this run come by this connection."""

    run: str


class Led(msgspec.Struct, frozen=True, tag=True):
    """A runner says: this connection leads to what was ordered."""

    run: str
    number: int


class Calls(msgspec.Struct, frozen=True, tag=True):
    """A runner says: this connection is one that the run makes to a sibling. The verdict comes by the tether.

    Attributes:
        run: that makes it.
        number: of the runner's own.
        destination: as `dms_proto.siblings.Way` writes it.
    """

    run: str
    number: int
    destination: str


class Lead(msgspec.Struct, frozen=True, tag=True):
    """The node orders a connection into the run.

    Attributes:
        number: of the node's own.
        target: to what, as `dms_proto.tunnels.write_target` writes it.
        order: for a command: which.
    """

    number: int
    target: str
    order: Order | None = None


class Refused(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A runner says why an order cannot be carried out.

    Attributes:
        number: of the order.
        code: of the error.
        message: for a person.
        is_ours: whether it is the machine's fault.
        retryable: as of the error.
    """

    number: int
    code: str
    message: str
    is_ours: bool = False
    retryable: bool = False


class Verdict(msgspec.Struct, frozen=True, tag=True):
    """The node says whether a connection to a sibling leads there now: why not, or nothing.

    Attributes:
        number: of the call.
        refusal: for a person; empty: bytes flow.
    """

    number: int
    refusal: str = ""


Hello = Tied | Led | Calls
"""What a connection is for."""

_T = TypeVar("_T")


class TetherError(OSError):
    """The other side is not who it should be, or says what is not understood."""


class NoRoomError(TetherError):
    """Others are showing the node who they are, as many as may at a time."""


def keep_place(directory: Path, place: Place) -> None:
    """Tells runners where the node is.

    Raises:
        OSError: no room or no permission.
    """
    fresh = directory / f".{FILE}"
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(place))
    fresh.replace(directory / FILE)


def place_in(directory: Path) -> Place | None:
    """Where the node is; None: its runners do not reach it."""
    try:
        return msgspec.json.decode((directory / FILE).read_bytes(), type=Place)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


async def connect(place: Place, hello: Hello) -> socket.socket:
    """A connection to the node, which has let us in. Where it has no room at the moment, it is tried again.

    Raises:
        OSError: it is not reached, or is another.
    """
    try:
        async with asyncio.timeout(SHOW_S):
            while True:
                with suppress(NoRoomError):
                    return await _connected(place, hello)
                await asyncio.sleep(AGAIN_S)
    except TimeoutError as error:
        raise TetherError(f"nobody answers at {place.host}:{place.port} within {SHOW_S:.0f} s") from error


async def _connected(place: Place, hello: Hello) -> socket.socket:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    connection = socket.socket(family)
    connection.setblocking(False)
    try:
        await loop.sock_connect(connection, (place.host, place.port))
        settle(connection)
        made_up = os.urandom(KEY_BYTES)
        given = await _given(connection)
        said = msgspec.msgpack.encode(hello)
        shows = _proof(place.key, b"runner", given, made_up, said)
        await loop.sock_sendall(connection, made_up + shows + _LENGTH.pack(len(said)) + said)
        shown = await _exactly(connection, KEY_BYTES)
        if not hmac.compare_digest(shown, _proof(place.key, b"node", given, made_up, said)):
            raise TetherError(f"who answers at {place.host}:{place.port} is not the node")
    except BaseException:
        connection.close()
        raise
    return connection


async def _given(connection: socket.socket) -> bytes:
    """What the node has made up: the first that it says, if it has room."""
    try:
        return await _exactly(connection, KEY_BYTES)
    except (TetherError, ConnectionResetError) as error:
        raise NoRoomError("the node has no room now") from error


async def let_in(connection: socket.socket, key: bytes) -> Hello:
    """What a connection to this node is for, once it has shown that it is one of its runners'.

    Raises:
        OSError: it is not, or does not say so in time.
    """
    loop = asyncio.get_running_loop()
    connection.setblocking(False)
    settle(connection)
    async with asyncio.timeout(SHOW_S):
        given = os.urandom(KEY_BYTES)
        await loop.sock_sendall(connection, given)
        made_up, shown = await _exactly(connection, KEY_BYTES), await _exactly(connection, KEY_BYTES)
        said = await _words(connection)
        if not hmac.compare_digest(shown, _proof(key, b"runner", given, made_up, said)):
            raise TetherError("it does not show that it is a runner of this node")
        hello: Hello = _read(said, Hello)  # type: ignore[arg-type]
        await loop.sock_sendall(connection, _proof(key, b"node", given, made_up, said))
    return hello


async def say(connection: socket.socket, what: msgspec.Struct) -> None:
    """Says one thing.

    Raises:
        OSError: nobody is there.
    """
    said = msgspec.msgpack.encode(what)
    await asyncio.get_running_loop().sock_sendall(connection, _LENGTH.pack(len(said)) + said)


async def hear(connection: socket.socket, what: type[_T]) -> _T:
    """Hears one thing.

    Raises:
        OSError: nobody is there, or what it says is not understood.
    """
    return _read(await _words(connection), what)


def settle(connection: socket.socket) -> None:
    """Small things go at once, and the end of a machine is noticed."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _ALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _proof(key: bytes, who: bytes, given: bytes, made_up: bytes, said: bytes) -> bytes:
    """`who` keeps what one side shows from being shown back to it."""
    return hmac.new(key, b"dms-tether-1" + who + given + made_up + said, hashlib.sha256).digest()


async def _words(connection: socket.socket) -> bytes:
    (length,) = _LENGTH.unpack(await _exactly(connection, _LENGTH.size))
    if length > MAX_WORDS:
        raise TetherError(f"{format_count(length, 'byte')} are said at once, {MAX_WORDS} are the most")
    return await _exactly(connection, length)


async def _exactly(connection: socket.socket, length: int) -> bytes:
    loop, found = asyncio.get_running_loop(), b""
    while len(found) < length:
        more = await loop.sock_recv(connection, length - len(found))
        if not more:
            raise TetherError("the other side has ended it")
        found += more
    return found


def _read(said: bytes, what: type[_T]) -> _T:
    try:
        return msgspec.msgpack.decode(said, type=what)
    except msgspec.DecodeError as error:
        raise TetherError(f"what the other side says is not understood: {error}") from error
