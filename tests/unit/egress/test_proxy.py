"""The proxy of a run, with real sockets: what it leads to, what it refuses, what it counts."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from dms.egress.meter import Meter, read_barred, read_total
from dms.egress.proxy import MOST, Bounds, Proxy, Resolve, resolve
from dms_proto.egress import MAX_BARRED, Barred, Egress

PATIENCE_S = 30.0
LOOPBACK = ("127.0.0.0/8",)
PLENTY = 1 << 20


class Elsewhere:
    """A server that answers each byte it gets with two, and knows how often it was reached."""

    def __init__(self) -> None:
        self.reached = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reached += 1
        while data := await reader.read(65536):
            writer.write(data + data)
            await writer.drain()
        writer.close()


class Tried:
    """A proxy, and what it wrote down."""

    def __init__(self, proxy: Proxy, port: int, meter: int, log: Path) -> None:
        self.proxy = proxy
        self.port = port
        self._meter = meter
        self._log = log

    @property
    def total(self) -> int:
        return read_total(self._meter)

    @property
    def barred(self) -> tuple[Barred, ...]:
        return read_barred(self._meter)

    @property
    def log(self) -> str:
        return self._log.read_text()

    async def ask(self, head: str, then: bytes = b"") -> bytes:
        """What comes back until the end, of a program that says no more than this."""
        async with asyncio.timeout(PATIENCE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(f"{head} HTTP/1.1\r\n\r\n".encode() + then)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
        return answer


@pytest.fixture
async def elsewhere() -> AsyncIterator[Elsewhere]:
    found = Elsewhere()
    async with await asyncio.start_server(found.serve, "127.0.0.1", 0) as server:
        found.port = server.sockets[0].getsockname()[1]
        yield found


class Making:
    """Makes proxies, and takes them away."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.servers: list[asyncio.Server] = []
        self.descriptors: list[int] = []

    async def __call__(
        self,
        wanted: Sequence[str],
        allowed: Sequence[str] | None = None,
        *,
        networks: tuple[str, ...] = LOOPBACK,
        most: int = PLENTY,
        resolve: Resolve = resolve,
    ) -> Tried:
        log = self._directory / f"log{len(self.servers)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND
        meter, logged = (os.open(path, flags) for path in (log.with_suffix(".egress"), log))
        self.descriptors += [logged, os.dup(meter)]
        bounds = Bounds(
            Egress(tuple(wanted), most), Egress(tuple(wanted if allowed is None else allowed), most), networks
        )
        proxy = Proxy(bounds, Meter(meter), logged, resolve)
        self.descriptors.append(meter)
        self.servers.append(await asyncio.start_server(proxy.serve, "127.0.0.1", 0))
        return Tried(proxy, self.servers[-1].sockets[0].getsockname()[1], self.descriptors[-2], log)


@pytest.fixture
async def making(tmp_path: Path) -> AsyncIterator[Making]:
    making = Making(tmp_path)
    yield making
    for server in making.servers:
        server.close()
        await server.wait_closed()
    for descriptor in making.descriptors:
        os.close(descriptor)


async def test_what_is_wanted_and_allowed_is_reached_and_counted_both_ways(
    making: Making, elsewhere: Elsewhere
) -> None:
    there = f"127.0.0.1:{elsewhere.port}"
    tried = await making([there])
    answer = await tried.ask(f"CONNECT {there}", b"hello")
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\nhellohello"
    assert tried.total == len("hello") * 3
    assert (tried.barred, tried.log) == ((), "")


@pytest.mark.parametrize(
    ("wanted", "allowed", "why"),
    [
        ((), ("*:1",), "the job does not ask for it"),
        (("127.0.0.1:1",), (), "the owner of this machine does not allow it"),
    ],
)
async def test_what_is_not_is_refused_and_told_once_in_log_and_record(
    making: Making, wanted: tuple[str, ...], allowed: tuple[str, ...], why: str
) -> None:
    tried = await making(wanted, allowed)
    answers = [await tried.ask("CONNECT 127.0.0.1:1") for _ in range(2)]
    assert all(answer.startswith(b"HTTP/1.1 403 ") and why.encode() in answer for answer in answers)
    assert tried.barred == (Barred("127.0.0.1:1", why),)
    assert tried.log == f"dms: no connection to 127.0.0.1:1: {why}\n"
    assert tried.total == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001"])
async def test_no_address_of_this_machine_is_meant_whatever_its_name(
    making: Making, elsewhere: Elsewhere, host: str
) -> None:
    tried = await making([f"*:{elsewhere.port}"], networks=())
    answer = await tried.ask(f"CONNECT {host}:{elsewhere.port}")
    assert b"not an address of the public internet" in answer
    assert elsewhere.reached == 0
    assert [barred.destination for barred in tried.barred] == [f"{host}:{elsewhere.port}"]


async def test_a_name_is_looked_up_once_and_the_address_that_was_judged_is_the_one_reached(
    making: Making, elsewhere: Elsewhere
) -> None:
    """DNS rebinding: asked again, the name leads to where it should not."""
    asked: list[str] = []

    async def rebound(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    there = f"moving.example:{elsewhere.port}"
    tried = await making([there], networks=("127.0.0.1/32",), resolve=rebound)
    assert (await tried.ask(f"CONNECT {there}", b"x")).endswith(b"xx")
    assert asked == ["moving.example"]
    assert b"403" in await tried.ask(f"CONNECT {there}")
    assert elsewhere.reached == 1


async def test_of_several_addresses_only_those_that_may_be_meant_are_tried(
    making: Making, elsewhere: Elsewhere
) -> None:
    async def several(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1", "127.0.0.3", "127.0.0.2"]

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        there = f"many.example:{elsewhere.port}"
        tried = await making([there], networks=("127.0.0.2/31",), resolve=several)
        answer = await tried.ask(f"CONNECT {there}")
    assert answer.startswith(b"HTTP/1.1 502 ")  # nobody listens at those two, and the first was not asked
    assert elsewhere.reached == 0
    assert tried.barred == ()


async def test_past_the_most_that_may_flow_nothing_does(making: Making, elsewhere: Elsewhere) -> None:
    there = f"127.0.0.1:{elsewhere.port}"
    tried = await making([there], most=10)
    assert b"aa" in await tried.ask(f"CONNECT {there}", b"a")
    cut = await tried.ask(f"CONNECT {there}", b"123456789")
    assert not cut.endswith(b"9")
    assert tried.total <= 10
    assert [barred.why for barred in tried.barred] == ["nothing is left of 10 bytes that may flow in one run"]


async def test_a_request_for_an_http_address_is_answered_by_its_host(making: Making, elsewhere: Elsewhere) -> None:
    there = f"127.0.0.1:{elsewhere.port}"
    tried = await making([there])
    answer = await tried.ask(f"GET http://{there}/page")
    assert answer.startswith(b"GET /page HTTP/1.1\r\n")


async def test_a_host_that_is_not_there_is_a_failure_and_no_refusal(making: Making) -> None:
    tried = await making(["nowhere.invalid:443"])
    assert (await tried.ask("CONNECT nowhere.invalid:443")).startswith(b"HTTP/1.1 502 ")
    assert tried.barred == ()


@pytest.mark.parametrize("head", ["GET /", "x" * 20_000, "CONNECT a:1\r\n" + "y: z\r\n" * 12_000])
async def test_what_cannot_be_read_is_said_to_be(making: Making, head: str) -> None:
    tried = await making([])
    assert (await tried.ask(head)).startswith(b"HTTP/1.1 400 ")


async def test_no_more_connections_are_carried_than_may_be(making: Making, elsewhere: Elsewhere) -> None:
    there = f"127.0.0.1:{elsewhere.port}"
    tried = await making([there])
    held = [await asyncio.open_connection("127.0.0.1", tried.port) for _ in range(MOST)]
    for reader, writer in held:
        writer.write(f"CONNECT {there} HTTP/1.1\r\n\r\n".encode())
        assert await reader.readline() == b"HTTP/1.1 200 Connection established\r\n"
    assert (await tried.ask(f"CONNECT {there}")).startswith(b"HTTP/1.1 503 ")
    for reader, writer in held:
        writer.close()
        await reader.read()
    async with asyncio.timeout(PATIENCE_S):
        while not (await tried.ask(f"CONNECT {there}")).startswith(b"HTTP/1.1 200 "):
            pass


async def test_what_is_written_down_of_refusals_is_bounded(making: Making) -> None:
    tried = await making([])
    for port in range(1, MAX_BARRED + 5):
        await tried.ask(f"CONNECT a:{port}")
    assert len(tried.barred) == MAX_BARRED
    assert len(tried.log.splitlines()) == MAX_BARRED
