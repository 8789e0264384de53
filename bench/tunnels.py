"""Tunnels: a small exchange and bulk through two real nodes into a sandbox, beside plain TCP and Unix sockets and a bare libp2p stream.

All echo servers are a process of their own, and all exchanges are of 100 bytes each way. The bare stream has the guarded libp2p of `dms.net` at both
ends, without nodes, sandbox, or anything between the stream and the echo.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
import trio
from libp2p.abc import INetStream
from libp2p.custom_types import TProtocol

from bench import market
from dms.devnet.network import DevNet
from dms.net.config import NetConfig
from dms.net.counters import Counters
from dms.net.guards.yamux import YamuxHooks
from dms.net.guards.yamux_stream import stream_under
from dms.net.host import Host
from dms.rpc.api.jobs import SubmitParams
from dms.rpc.api.tunnels import TunnelParams
from dms.rpc.async_client import AsyncClient, open_tunnel
from dms.testing.hostile_peer import Visit, visit
from dms_proto.errors import DmsError
from dms_proto.units import MIB

PORT = 9000
SMALL = bytes(100)
BULK = 64 * MIB
AT_ONCE = 16
"""Connections of the crowd to each provider."""
ECHO_PROTOCOL = "/bench/echo/1"
ECHO = f"""
import socket, socketserver, sys

class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        if isinstance(self.server, socketserver.TCPServer) and self.request.family == socket.AF_INET:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := self.request.recv(1 << 20):
            self.request.sendall(data)

class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    pass

socketserver.ThreadingTCPServer.allow_reuse_address = True
where = sys.argv[1] if len(sys.argv) > 1 else ""
server = Unix(where, Echo) if where.startswith("/") else socketserver.ThreadingTCPServer(("127.0.0.1", int(where or {PORT})), Echo)
print("ready", server.server_address[1] if where == "0" else "", flush=True)
server.serve_forever()
"""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Carried(NamedTuple):
    """What one way of carrying bytes does."""

    p50_ms: float
    p95_ms: float
    mib_per_s: float


class Measured(NamedTuple):
    """All ways in one run, and what a crowd of connections to two providers exchanges."""

    tcp: Carried
    unix: Carried
    stream: Carried
    tunnel: Carried
    exchanges_per_s: float


def measure(rounds: int) -> Measured:
    """Measures everything."""
    with echo_process("0") as said:
        tcp = asyncio.run(plain("127.0.0.1", int(said), rounds))
    path = f"/tmp/dms-bench-{os.getpid()}.sock"
    try:
        with echo_process(path):
            unix = asyncio.run(plain(path, 0, rounds))
    finally:
        if os.path.exists(path):  # noqa: PTH110 - as short as it gets
            os.unlink(path)  # noqa: PTH108 - likewise
    stream = bare(rounds)
    with market.devnet(2) as net:
        tunnel, crowd = asyncio.run(through(net, rounds))
    return Measured(tcp, unix, stream, tunnel, crowd)


@contextmanager
def echo_process(where: str) -> Iterator[str]:
    """An echo as its own process; gives the port."""
    process = subprocess.Popen([sys.executable, "-c", ECHO, where], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().partition(" ")[2].strip()
    finally:
        process.kill()
        process.wait()


async def plain(host: str, port: int, rounds: int) -> Carried:
    """A socket with nothing between."""
    opened = await (asyncio.open_connection(host, port) if port else asyncio.open_unix_connection(host))
    try:
        return await carried(opened, rounds)
    finally:
        opened[1].close()


async def carried(streams: Streams, rounds: int) -> Carried:
    """Exchanges one after the other, then as much as passes there and back."""
    reader, writer = streams
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        writer.write(SMALL)
        await reader.readexactly(len(SMALL))
        times.append((time.perf_counter() - started) * 1e3)
    piece, started = bytes(MIB), time.perf_counter()

    async def send() -> None:
        for _ in range(BULK // MIB):
            writer.write(piece)
            await writer.drain()

    sending, left = asyncio.create_task(send()), BULK
    while left:
        left -= len(await reader.read(MIB))
    await sending
    return Carried(*spread(times), BULK / MIB / (time.perf_counter() - started))


def spread(times: list[float]) -> tuple[float, float]:
    return statistics.median(times), sorted(times)[int(len(times) * 0.95) - 1]


# ------------------------------------------------------------------------------------------------------------ through nodes


async def through(net: DevNet, rounds: int) -> tuple[Carried, float]:
    """One tunnel alone; then a crowd of them to two providers, each with an exchange under way all the time."""
    async with market.connected(net["requester"]) as client:
        jobs = [await started(client) for _ in range(2)]
        one = await opened(net, jobs[0])
        try:
            alone = await carried(one, rounds)
        finally:
            one[1].close()
        crowd = [await opened(net, job) for job in jobs for _ in range(AT_ONCE)]
        begun = time.perf_counter()
        each = max(20, 4 * rounds // len(crowd))
        await asyncio.gather(*(exchange(streams, each) for streams in crowd))
        rate = each * len(crowd) / (time.perf_counter() - begun)
        for _, writer in crowd:
            writer.close()
        for job in jobs:
            await client.call("job.cancel", {"job_id": job})
            await market.until_ended(client, job)
    return alone, rate


async def started(client: AsyncClient) -> str:
    """An echo in a sandbox; the second lands at the other provider, since each has room for one."""
    spec = market.spec("/usr/bin/python3", "-c", ECHO)
    half = msgspec.structs.replace(spec.task.resources, cpu_millicores=1_500)
    spec = msgspec.structs.replace(
        spec,
        task=msgspec.structs.replace(spec.task, ports=(PORT,), resources=half),
        needs=msgspec.structs.replace(spec.needs, resources=half),
    )
    job: str = (await client.call("job.submit", SubmitParams(spec)))["job_id"]
    await market.until_running(client, job)
    return job


async def opened(net: DevNet, job: str) -> Streams:
    """A tunnel to the echo, once it listens."""
    while True:
        try:
            tunnel = await open_tunnel(net["requester"].home.socket, TunnelParams(job, f"port:{PORT}"))
        except DmsError as error:
            if error.code != "not_listening":
                raise
            await asyncio.sleep(0.02)
        else:
            return tunnel.reader, tunnel.writer


async def exchange(streams: Streams, rounds: int) -> None:
    reader, writer = streams
    for _ in range(rounds):
        writer.write(SMALL)
        await reader.readexactly(len(SMALL))


# ------------------------------------------------------------------------------------------------------------- bare libp2p


def bare(rounds: int) -> Carried:
    """A stream of guarded libp2p to another process, whose handler echoes."""
    process = subprocess.Popen([sys.executable, "-m", "bench.tunnels"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()

        async def play(guest: Visit) -> Carried:
            return await carried_bare(guest, rounds)

        return trio.run(visit, address, play)
    finally:
        process.kill()
        process.wait()


async def carried_bare(guest: Visit, rounds: int) -> Carried:
    stream = await guest.open(ECHO_PROTOCOL)
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await stream.write(SMALL)
        got = 0
        while got < len(SMALL):
            got += len(await stream.read())
        times.append((time.perf_counter() - begun) * 1e3)
    begun, left = time.perf_counter(), BULK

    async def send() -> None:
        for _ in range(BULK // MIB):
            await stream.write(bytes(MIB))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while left:
            left -= len(await stream.read(MIB))
    return Carried(*spread(times), BULK / MIB / (time.perf_counter() - begun))


async def serve_bare() -> None:
    """Says its address, and echoes until it is killed."""
    host = Host(NetConfig(private_key=os.urandom(32), listen=("/ip4/127.0.0.1/tcp/0",)), Counters(), YamuxHooks())

    async def echo(net_stream: INetStream) -> None:
        stream = stream_under(net_stream)
        while True:
            await stream.write(await stream.read(MIB))

    host.set_stream_handler(TProtocol(ECHO_PROTOCOL), echo)
    async with host.run():
        await host.listen()
        print(host.get_addrs()[0], flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(serve_bare)
