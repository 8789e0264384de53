"""The floor: the smallest honest version of one market round, to compare the real one with in the same run.

A signed request to three provider processes over open TCP connections on loopback, three signed bids, a signed award to one, which runs `true` in
bubblewrap and answers with a signed result. asyncio, msgpack and Ed25519; no store, no discovery, no capacity, no limits, no logs.
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import statistics
import struct
import sys
import time
from typing import Any

import msgpack
from nacl.signing import SigningKey, VerifyKey

PROVIDERS = 3
SANDBOX = ("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--", "true")


def pack(key: SigningKey, body: dict[str, Any]) -> bytes:
    data = msgpack.packb(body)
    frame = msgpack.packb([bytes(key.verify_key), data, key.sign(data).signature])
    return struct.pack(">I", len(frame)) + frame


async def unpack(reader: asyncio.StreamReader) -> dict[str, Any]:
    (length,) = struct.unpack(">I", await reader.readexactly(4))
    public, data, signature = msgpack.unpackb(await reader.readexactly(length))
    VerifyKey(public).verify(data, signature)
    body: dict[str, Any] = msgpack.unpackb(data)
    return body


async def provide(listener: socket.socket) -> None:
    key = SigningKey.generate()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                message = await unpack(reader)
            except asyncio.IncompleteReadError:
                os._exit(0)  # the bench is over
            if message["kind"] == "request":
                writer.write(pack(key, {"kind": "bid", "price": os.getpid() % 7}))
            else:
                process = await asyncio.create_subprocess_exec(*SANDBOX)
                writer.write(pack(key, {"kind": "result", "code": await process.wait()}))

    await asyncio.start_server(serve, sock=listener)
    await asyncio.Event().wait()


class Floor:
    """Three provider processes and connections to them."""

    def __init__(self) -> None:
        self.key = SigningKey.generate()
        self.processes: list[asyncio.subprocess.Process] = []
        self.links: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def start(self) -> None:
        for _ in range(PROVIDERS):
            listener = socket.create_server(("127.0.0.1", 0))
            process = await asyncio.create_subprocess_exec(
                sys.executable, __file__, str(listener.fileno()), pass_fds=(listener.fileno(),)
            )
            self.processes.append(process)
            self.links.append(await asyncio.open_connection(*listener.getsockname()))
            listener.close()

    async def round(self) -> None:
        for _, writer in self.links:
            writer.write(pack(self.key, {"kind": "request", "needs": {"cpu": 1000}, "id": os.urandom(16)}))
        bids = [(await unpack(reader), reader, writer) for reader, writer in self.links]
        _, reader, writer = min(bids, key=lambda bid: bid[0]["price"])
        writer.write(pack(self.key, {"kind": "award", "id": os.urandom(16)}))
        assert (await unpack(reader))["code"] == 0

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self.processes]

    async def close(self) -> None:
        for _, writer in self.links:
            writer.close()
        for process in self.processes:
            await process.wait()


async def measure(rounds: int) -> dict[str, float]:
    """p50 and p99 of a round in ms, and CPU ms per round over all processes."""
    floor = Floor()
    await floor.start()
    for _ in range(5):
        await floor.round()
    times = []
    before = _cpu_ms(floor.pids)
    for _ in range(rounds):
        started = time.perf_counter()
        await floor.round()
        times.append((time.perf_counter() - started) * 1e3)
    cpu = (_cpu_ms(floor.pids) - before) / rounds
    await floor.close()
    return {"p50_ms": statistics.median(times), "p99_ms": sorted(times)[int(rounds * 0.99) - 1], "cpu_ms": cpu}


def _cpu_ms(pids: list[int]) -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = (own.ru_utime + own.ru_stime) * 1e3
    for pid in pids:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        total += sum(map(int, fields[11:15])) * 1e3 / os.sysconf("SC_CLK_TCK")
    return total


if __name__ == "__main__":
    asyncio.run(provide(socket.socket(fileno=int(sys.argv[1]))))
