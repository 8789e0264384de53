"""Throws frames at a running node from outside: over its socket, HTTP and WebSocket, with calls that are never said to their end besides."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import aiohttp

from dms import __version__
from dms.devnet.network import DevNet, free_ports
from dms.devnet.topology import NodeSpec
from dms.rpc.api import METHODS
from dms.rpc.openrpc import document
from dms.rpc.token import load_token
from dms.testing.rpc_frames import Frames
from dms.testing.rpc_fuzz import HUNG_S, SPARED, WARM_UP, Report, UnsoundError, judge, memory_mib

READ_BYTES: Final = 64 * 1024 * 1024
HELD: Final = 40
"""Connections on which half a call stays unsaid; the node lets 128 in."""
LAST: Final = "the last of them"


class Target(NamedTuple):
    """A running node: its socket, its URL, the token to show there, its process."""

    socket: Path
    url: str
    token: str
    pid: int


async def fuzz_process(target: Target, frames: Frames, count: int) -> Report:
    """Sends `count` frames to a node: half over its socket, the rest over HTTP and WebSocket, in connections of 50; some break off in the middle.

    Raises:
        UnsoundError: an answer is none, or tells of a defect; nothing came for a minute.
    """
    outcomes, memory, started = Counter[str](), 0.0, time.perf_counter()
    headers = {"Authorization": f"Bearer {target.token}"}
    ways = (_over_socket, _over_http, _over_socket, _over_websocket)
    held: list[asyncio.StreamWriter] = []
    async with aiohttp.ClientSession(target.url, headers=headers) as http:
        for number in range(0, count, 50):
            if not memory and number >= count * WARM_UP:
                memory = memory_mib(target.pid)
            if number % 1_000 == 0:
                held = held[-HELD:] + await _break_off(target, frames)
            sent = [frames.next() for _ in range(min(50, count - number))]
            try:
                async with asyncio.timeout(HUNG_S):
                    outcomes += await ways[number // 50 % len(ways)](target, http, sent)
            except TimeoutError:
                raise UnsoundError(f"one of these hung: {sent!r}") from None
        async with http.post("/rpc", json={"jsonrpc": "2.0", "method": "rpc.ping", "id": 1}) as response:
            if response.status != 200:
                raise UnsoundError(f"at the end the node answers {response.status}")
    grown = memory_mib(target.pid) - memory
    for writer in held:
        writer.close()
    return Report(outcomes, count / (time.perf_counter() - started), grown)


async def _over_socket(target: Target, _http: aiohttp.ClientSession, sent: list[bytes]) -> Counter[str]:
    reader, writer = await asyncio.open_unix_connection(str(target.socket), limit=READ_BYTES)
    outcomes = Counter[str]()

    async def listen() -> None:
        while line := await reader.readline():
            if "method" not in (message := json.loads(line)) or not isinstance(message, dict):
                outcomes.update(judge(None, line))

    listening = asyncio.create_task(listen())
    with contextlib.suppress(ConnectionError):
        for frame in sent:
            writer.write(frame.replace(b"\n", b" ") + b"\n")
            await writer.drain()
        writer.write_eof()
    with contextlib.suppress(ConnectionError):
        await listening
    writer.close()
    return outcomes


async def _over_http(_target: Target, http: aiohttp.ClientSession, sent: list[bytes]) -> Counter[str]:
    outcomes = Counter[str]()
    for frame in sent:
        async with http.post("/rpc", data=frame, headers={"Content-Type": "application/json"}) as response:
            if response.status not in {200, 204}:
                raise UnsoundError(f"HTTP {response.status} to {frame[:500]!r}")
            outcomes += judge(frame, await response.read() or None)
    return outcomes


async def _over_websocket(_target: Target, http: aiohttp.ClientSession, sent: list[bytes]) -> Counter[str]:
    outcomes = Counter[str]()
    async with http.ws_connect("/ws", max_msg_size=READ_BYTES) as ws:

        async def talk() -> None:
            for frame in sent:
                await ws.send_bytes(frame)
            await ws.send_json({"jsonrpc": "2.0", "method": "rpc.ping", "id": LAST})

        talking = asyncio.create_task(talk())  # while it is listened to: a node does not read who does not
        async for message in ws:
            value = json.loads(message.data)
            if isinstance(value, list) or "method" not in value:
                outcomes += judge(None, message.data.encode())
            if isinstance(value, dict) and value.get("id") == LAST:
                break
        await talking
    return outcomes


async def _break_off(target: Target, frames: Frames) -> list[asyncio.StreamWriter]:
    """Three calls that come to no end: on two connections half a call stays unsaid, the third hangs up on the answer."""
    port = int(target.url.rpartition(":")[2])
    _, on_socket = await asyncio.open_unix_connection(str(target.socket))
    on_socket.write(frames.next()[:40].replace(b"\n", b" "))
    _, on_http = await asyncio.open_connection("127.0.0.1", port)
    on_http.write(
        b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n" % target.token.encode()
        + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"[: frames.random.randrange(60)]
    )
    _, gone = await asyncio.open_unix_connection(str(target.socket))
    gone.write(b"\n".join(frames.next().replace(b"\n", b" ") for _ in range(50)))
    for writer in (on_socket, on_http, gone):
        with contextlib.suppress(ConnectionError):
            await writer.drain()
    gone.transport.abort()
    return [on_socket, on_http]


async def fuzz_a_process(root: Path, count: int, random: Random) -> Report:
    """Fuzzes a node process from outside: with full rights on its socket, with the reading token on HTTP. Calls that would end it are left out.

    Raises:
        UnsoundError: see `fuzz_process`.
    """
    (port,) = free_ports(1)
    spec = NodeSpec("fuzzed", "requester", {"provider.enabled": False, "rpc.http": True, "rpc.port": port})
    with DevNet(root, (spec,)) as net:
        node = net["fuzzed"]
        assert node.process is not None
        token = load_token(node.home.reading_token)
        target = Target(node.home.socket, f"http://127.0.0.1:{port}", token, node.process.pid)
        costly = {entry.name for entry in METHODS.values() if entry.attribute in SPARED}
        frames = Frames(random, document(METHODS, __version__), {"peer": [node.peer_id]}, costly)
        return await fuzz_process(target, frames, count)
