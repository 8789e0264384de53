"""The proxy of one run: decides on each connection, and carries its bytes. On the loop of a process of its own.

A connection is made if the job asks for it, the owner allows it, and an address of that name is public, or of a network that the owner names; to
that very address, so that a name which leads elsewhere a moment later gains nothing. What is refused is told to the program, in the job's log, and in
the file of the meter.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from dms.egress.asked import Asked, read_head
from dms.egress.meter import Meter
from dms_proto.egress import Barred, Egress, is_of, is_public, is_within
from dms_proto.units import format_count

MOST: Final = 64
"""Connections at a time."""
PIECE: Final = 64 * 1024
MAX_HEAD: Final = 16 * 1024
"""Bytes of a request's first line and headers."""
HEAD_S: Final = 30.0
"""Seconds in which a program has to say what it wants."""
CONNECT_S: Final = 20.0
"""Seconds for finding and reaching a host, all its addresses together."""


class Bounds(msgspec.Struct, frozen=True):
    """Where one run may connect to.

    Attributes:
        wanted: what its job asks for, and how many bytes.
        allowed: what the owner of this machine allows.
        networks: of addresses that are not public and meant all the same.
    """

    wanted: Egress
    allowed: Egress
    networks: tuple[str, ...] = ()

    @property
    def most_bytes(self) -> int:
        """In both directions together."""
        return min(self.wanted.most_bytes, self.allowed.most_bytes)


Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, for a connection to that port."""


class _NoWay(Exception):  # noqa: N818 - it is told to the program, as the status that it is
    """There is no connection. `status` is HTTP's; `is_barred`: since it may not be."""

    def __init__(self, status: str, why: str, *, is_barred: bool = False) -> None:
        super().__init__(why)
        self.status = status
        self.is_barred = is_barred


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as this machine finds them.

    Raises:
        OSError: it finds none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Proxy:
    """One per run."""

    def __init__(self, bounds: Bounds, meter: Meter, log: int, resolve: Resolve = resolve) -> None:
        """`log`: descriptor of the job's log."""
        self._bounds = bounds
        self._meter = meter
        self._log = log
        self._resolve = resolve
        self._served = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection of a program, to its end."""
        if self._served >= 2 * MOST:  # beyond those that are told that they are too many
            writer.transport.abort()
            return
        self._served += 1
        try:
            await self._serve(reader, writer)
            writer.close()
        except* (OSError, EOFError):  # somebody has gone, said nothing, or used up what there was: nobody can be told
            writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()
        self._served -= 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked: Asked | None = None
        try:
            asked = await self._heard(reader)
            self._check(asked)
            far_reader, far_writer = await self._reach(asked)
        except _NoWay as no:
            if asked is not None and no.is_barred:
                self._bar(Barred(asked.destination, str(no)))
            writer.write(_answer(no.status, str(no)))
            await writer.drain()
            return
        try:
            if not asked.opening:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            elif self._may_pass(asked, len(asked.opening)):
                far_writer.write(asked.opening)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(asked, reader, far_writer))
                both.create_task(self._carry(asked, far_reader, writer))
        finally:
            far_writer.close()
            with suppress(OSError):
                await far_writer.wait_closed()

    async def _heard(self, reader: asyncio.StreamReader) -> Asked:
        try:
            async with asyncio.timeout(HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            if len(head) > MAX_HEAD:
                raise ValueError("the headers are too long")
            return read_head(head)
        except asyncio.LimitOverrunError:
            raise _NoWay("400 Bad Request", "the headers are too long") from None
        except ValueError as error:
            raise _NoWay("400 Bad Request", str(error)) from None

    def _check(self, asked: Asked) -> None:
        """Refuses what may not be, whatever it leads to."""
        bounds = self._bounds
        if self._served > MOST:
            raise _NoWay("503 Service Unavailable", f"the job has as many connections as it may, {MOST} at a time")
        if not is_within(asked.destination, bounds.wanted.destinations):
            raise _barred("the job does not ask for it")
        if not is_within(asked.destination, bounds.allowed.destinations):
            raise _barred("the owner of this machine does not allow it")
        if self._meter.total >= bounds.most_bytes:
            raise _barred(self._spent())

    async def _reach(self, asked: Asked) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await self._resolve(asked.host, asked.port)
                meant = [address for address in found if self._is_meant(address)]
                if not meant:
                    raise _barred(f"it leads to {', '.join(found)}: not an address of the public internet")
                return await _connect(meant, asked.port)
        except TimeoutError:
            raise _NoWay("504 Gateway Timeout", f"{asked.destination} was not reached in {CONNECT_S:g} s") from None
        except (OSError, UnicodeError) as error:
            raise _NoWay("502 Bad Gateway", f"{asked.destination} cannot be reached: {error}") from None

    def _is_meant(self, address: str) -> bool:
        """What this machine offers at its own addresses is not the public internet, whatever they are."""
        return is_of(address, self._bounds.networks) or (is_public(address) and not _is_own(address))

    async def _carry(self, asked: Asked, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        """Until the source has ended, and said so to the sink."""
        while data := await source.read(PIECE):
            if not self._may_pass(asked, len(data)):
                raise EOFError
            sink.write(data)
            await sink.drain()
        sink.write_eof()

    def _may_pass(self, asked: Asked, size: int) -> bool:
        """Counts bytes that go on; none do that would be too many."""
        if self._meter.total + size > self._bounds.most_bytes:
            self._bar(Barred(asked.destination, self._spent()))
            return False
        self._meter.count(size)
        return True

    def _spent(self) -> str:
        return f"nothing is left of {format_count(self._bounds.most_bytes, 'byte')} that may flow in one run"

    def _bar(self, barred: Barred) -> None:
        if self._meter.bar(barred):
            with suppress(OSError):
                os.write(self._log, f"dms: no connection to {barred.destination}: {barred.why}\n".encode())


async def _connect(addresses: Sequence[str], port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the first that answers.

    Raises:
        OSError: of the last, where none does.
    """
    *others, last = addresses
    for address in others:
        with suppress(OSError):
            return await asyncio.open_connection(address, port)
    return await asyncio.open_connection(last, port)


def _is_own(address: str) -> bool:
    """Whether an address is this machine's: the kernel would send to it from itself. Nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return bool(probe.getsockname()[0] == address)
    except OSError:  # there is no way to it
        return False


def _barred(why: str) -> _NoWay:
    return _NoWay("403 Forbidden", why, is_barred=True)


def _answer(status: str, why: str) -> bytes:
    text = f"dms: {why}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return head.encode() + text
