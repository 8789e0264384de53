"""A wide-area network on one machine: hosts in network namespaces, joined by a link that delays and loses packets.

Each host has one TUN device whose other end is held here, and one thread hands the packets on: after `delay_ms`, or not at all. All of it is in
user space, since many kernels lack netem, and belongs to this process: when it ends, however it ends, nothing is left behind.

::

    with Wan(2, delay_ms=30, loss=0.01, seed=1) as wan:
        subprocess.run([*wan.hosts[0].prefix, "ping", "-c", "1", wan.hosts[1].address])
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self

_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_MTU: Final = 1400
_HEADER: Final = 20
_BURST: Final = 64
"""Packets taken from one host before the others are looked at."""
_NETWORK: Final = "10.78.0"


def lack() -> str:
    """What this machine lacks for it; empty when it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not Path("/dev/net/tun").exists():
        return "no /dev/net/tun on this machine"
    for tool in ("ip", "nsenter"):
        if shutil.which(tool) is None:
            return f"no {tool} on this machine"
    try:
        with Wan(1):
            return ""
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no network namespace with a TUN device can be made here: {error}"


class Host(NamedTuple):
    """A place to run programs.

    Attributes:
        address: its IPv4 address.
        prefix: put before a command, has it run there.
    """

    address: str
    prefix: tuple[str, ...]
    namespace: int
    tun: int


class Wan:
    """A running network. Its thread ends, and its hosts are gone, at the end of the block.

    Args:
        hosts: how many, at 10.78.0.1 and up.
        delay_ms: one way.
        loss: share of packets that never arrive, 0 to 1.
        seed: of the choice which.

    Attributes:
        hosts: in order.
        carried: packets that arrived.
        lost: packets that did not.
    """

    def __init__(self, hosts: int, *, delay_ms: float = 0, loss: float = 0, seed: int = 0) -> None:
        self.hosts: list[Host] = []
        self.carried = 0
        self.lost = 0
        self._apart: set[frozenset[bytes]] = set()
        self._count = hosts
        self._delay = delay_ms / 1000
        self._loss = loss
        self._random = random.Random(seed)  # noqa: S311 - which packets are lost is no secret
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="wan")

    def __enter__(self) -> Self:
        try:
            for number in range(1, self._count + 1):
                self.hosts.append(_on_thread_of_its_own(lambda number=number: _make_host(f"{_NETWORK}.{number}")))  # type: ignore[misc]
        except BaseException:
            self._close()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.write(self._stop_write, b"x")
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for descriptor in (self._stop_read, self._stop_write, *(d for h in self.hosts for d in (h.namespace, h.tun))):
            os.close(descriptor)

    def _carry(self) -> None:
        """Hands packets on until told to stop."""
        way = {socket.inet_aton(host.address): host.tun for host in self.hosts}
        on_the_way: list[tuple[float, int, int, bytes]] = []
        ready = select.poll()
        for descriptor in (self._stop_read, *way.values()):
            ready.register(descriptor, select.POLLIN)
        while True:
            wait = max(0.0, on_the_way[0][0] - time.monotonic()) * 1000 if on_the_way else None
            for descriptor, _ in ready.poll(wait):
                if descriptor == self._stop_read:
                    return
                for packet in _packets(descriptor):
                    target = way.get(packet[16:20])
                    if target is None or self._is_lost(packet):
                        self.lost += 1
                        continue
                    self.carried += 1
                    heapq.heappush(on_the_way, (time.monotonic() + self._delay, self.carried, target, packet))
            while on_the_way and on_the_way[0][0] <= time.monotonic():
                _, _, target, packet = heapq.heappop(on_the_way)
                _write(target, packet)

    def part(self, one: Host, other: Host) -> None:
        """From now on the two hosts do not reach each other."""
        self._apart.add(frozenset(map(socket.inet_aton, (one.address, other.address))))

    def _is_lost(self, packet: bytes) -> bool:
        return self._random.random() < self._loss or frozenset((packet[12:16], packet[16:20])) in self._apart


def _packets(tun: int) -> list[bytes]:
    """The IPv4 packets that a host sends now."""
    packets = []
    with suppress(BlockingIOError):
        for _ in range(_BURST):
            packet = os.read(tun, 65_536)
            if len(packet) >= _HEADER and packet[0] >> 4 == 4:
                packets.append(packet)
    return packets


def _write(tun: int, packet: bytes) -> None:
    with suppress(OSError):  # its queue is full: lost, as on any network
        os.write(tun, packet)


def _make_host(address: str) -> Host:
    """Moves the calling thread into a new namespace and makes a host of it. The thread must end afterwards."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a network namespace cannot be made")
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    try:
        fcntl.ioctl(tun, _TUNSETIFF, struct.pack("16sH", b"wan", _IFF_TUN | _IFF_NO_PI))
        for command in (
            "link set lo up",
            f"addr add {address}/24 dev wan",
            f"link set wan mtu {_MTU} up",
            "route add default dev wan",
        ):
            subprocess.run(["ip", *command.split()], check=True)  # runs in the namespace of this thread
        namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    except BaseException:
        os.close(tun)
        raise
    prefix = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{namespace}", "--")
    return Host(address, prefix, namespace, tun)


def _on_thread_of_its_own(work: Callable[[], Host]) -> Host:
    made: list[Host] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            made.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again on the caller's thread
            failed.append(error)

    thread = threading.Thread(target=run, name="wan host")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]
