"""HTTP and WebSocket on loopback: safe by default, and the same methods as on the socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from dms.config.paths import Home
from dms.jobs.check import job_of
from dms.jobs.resolve import resolve
from dms.rpc.api import METHODS
from dms.rpc.api.jobs import SubmitParams
from dms.rpc.dispatcher import MAX_REQUEST_BYTES, Dispatcher
from dms.rpc.exposure import HttpOptions, is_loopback
from dms.rpc.http import MAX_CONNECTIONS, HttpServer
from dms.rpc.registry import Access, calls
from dms.rpc.token import Tokens, rotate_token, token_file
from dms.testing.node_api import MemoryNode
from dms_proto.errors import MachineError

PING = {"jsonrpc": "2.0", "method": "rpc.ping", "id": 1}


@pytest.fixture
def node(tmp_path: Path) -> MemoryNode:
    return MemoryNode(tmp_path)


@pytest.fixture
def dispatcher(node: MemoryNode) -> Dispatcher:
    return Dispatcher(node, METHODS, "0.1.0", lambda: {"openrpc": "1"})


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


@pytest.fixture
def tokens(home: Home) -> Tokens:
    return Tokens(home)


@pytest.fixture
async def url(dispatcher: Dispatcher, tokens: Tokens) -> AsyncIterator[str]:
    server = HttpServer(dispatcher, HttpOptions(), tokens)
    yield await server.start()
    await server.stop()


@asynccontextmanager
async def caller(home: Home, access: Access) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that shows a token."""
    shown = {"Authorization": f"Bearer {token_file(home, access).read_text().strip()}"}
    async with aiohttp.ClientSession(headers=shown, timeout=aiohttp.ClientTimeout(10)) as session:
        yield session


@pytest.fixture
async def http(home: Home, tokens: Tokens) -> AsyncIterator[aiohttp.ClientSession]:
    async with caller(home, Access.FULL) as session:
        yield session


@pytest.fixture
async def reader(home: Home, tokens: Tokens) -> AsyncIterator[aiohttp.ClientSession]:
    async with caller(home, Access.READ) as session:
        yield session


async def test_a_post_is_answered(url: str, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{url}/rpc", json=PING) as response:
        assert response.status == 200
        assert (await response.json())["result"]["version"] == "0.1.0"


async def test_a_notification_gets_no_content(url: str, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{url}/rpc", json={"jsonrpc": "2.0", "method": "rpc.ping"}) as response:
        assert (response.status, await response.read()) == (204, b"")


async def test_an_error_of_the_protocol_is_still_a_response(url: str, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{url}/rpc", data=b"{", headers={"Content-Type": "application/json"}) as response:
        assert (response.status, (await response.json())["error"]["code"]) == (200, -32700)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer sécret"}, 401),
        ({"Authorization": "Basic TOKEN"}, 401),
        ({"Authorization": "TOKEN"}, 401),
        ({"Authorization": "Bearer TOKENx"}, 401),
        ({"Authorization": "", "X-API-Key": "TOKEN"}, 200),
        ({"Authorization": "bearer TOKEN"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost"}, 200),
        ({"Host": "LOCALHOST:99"}, 200),
        ({"Host": "[::1]:80"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:1"}, 403),
        ({"Origin": "http://[oops"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
    ],
)
async def test_who_may_come_in(
    url: str, http: aiohttp.ClientSession, home: Home, headers: dict[str, str], status: int
) -> None:
    token = home.token.read_text().strip()
    headers = {name: value.replace("TOKEN", token) for name, value in headers.items()}
    sent = {"Content-Type": "application/json", **headers}
    async with http.post(f"{url}/rpc", data=json.dumps(PING), headers=sent) as response:
        assert response.status == status


async def test_a_page_of_our_own_origin_may_come_in(url: str, http: aiohttp.ClientSession) -> None:
    for origin in (url, url.replace("127.0.0.1", "localhost")):
        async with http.post(f"{url}/rpc", json=PING, headers={"Origin": origin}) as response:
            assert response.status == 200


async def test_a_body_larger_than_the_limit_is_refused(url: str, http: aiohttp.ClientSession) -> None:
    async with http.post(
        f"{url}/rpc", data=io.BytesIO(b" " * (MAX_REQUEST_BYTES + 1)), headers={"Content-Type": "application/json"}
    ) as response:
        assert response.status == 413


async def test_health_says_only_that_somebody_is_there(url: str) -> None:
    async with aiohttp.ClientSession() as stranger, stranger.get(f"{url}/health") as response:
        assert (response.status, await response.json()) == (200, {"status": "ok"})


async def test_health_is_not_told_to_a_rebound_name(url: str, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{url}/health", headers={"Host": "evil.example"}) as response:
        assert response.status == 403


@pytest.mark.parametrize("path", ["/", "/rpc", "/node.sock", "/ws/x"])
async def test_nothing_else_is_served(url: str, http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(f"{url}{path}") as response:
        assert response.status in (404, 405)


async def test_subscribing_by_post_says_what_to_use_instead(url: str, http: aiohttp.ClientSession) -> None:
    request = {"jsonrpc": "2.0", "method": "subscribe", "params": {"topic": "events"}, "id": 1}
    async with http.post(f"{url}/rpc", json=request) as response:
        assert "/ws" in (await response.json())["error"]["data"]["hint"]


async def test_a_websocket_follows_a_job(url: str, http: aiohttp.ClientSession, tmp_path: Path) -> None:
    spec = msgspec.to_builtins(SubmitParams(resolve(job_of({"command": ["true"]}), tmp_path)))
    async with http.ws_connect(f"{url}/ws") as ws:
        await ws.send_json({"jsonrpc": "2.0", "method": "job.submit", "params": spec, "id": 1})
        job = (await ws.receive_json())["result"]["job_id"]
        await ws.send_json(
            {"jsonrpc": "2.0", "method": "subscribe", "params": {"topic": "job", "params": {"job_id": job}}, "id": 2}
        )
        assert (await ws.receive_json())["result"] == {"subscription": "s1"}
        received: list[Any] = []
        while not received or received[-1]["method"] != "end":
            received.append(await ws.receive_json())
    assert [message["params"].get("id") for message in received] == [1, 2, 3, 4, None]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Authorization": ""}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Origin": "https://evil.example"}, 403),
        ({"Host": "evil.example"}, 403),
    ],
)
async def test_a_websocket_asks_the_same_of_who_comes(
    url: str, http: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.ws_connect(f"{url}/ws", headers=headers)
    assert caught.value.status == status


async def test_garbage_on_a_websocket_is_answered_and_survived(url: str, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{url}/ws") as ws:
        await ws.send_str("{")
        assert (await ws.receive_json())["error"]["code"] == -32700
        await ws.send_bytes(b"\xff\xfe")
        assert (await ws.receive_json())["error"]["code"] == -32700
        await ws.send_json(PING)
        assert "result" in await ws.receive_json()


async def test_a_websocket_message_larger_than_the_limit_closes_it(url: str, http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{url}/ws") as ws:
        with contextlib.suppress(ConnectionError):  # it may be cut off while it still talks
            await ws.send_bytes(b" " * (MAX_REQUEST_BYTES + 1))
        message = await ws.receive()
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    async with http.post(f"{url}/rpc", json=PING) as response:
        assert response.status == 200


# ------------------------------------------------------------------------------------------------- the token that only looks


async def test_a_reading_token_opens_what_looks_and_nothing_else(url: str, reader: aiohttp.ClientSession) -> None:
    for entry in calls(METHODS.values()):
        request = {"jsonrpc": "2.0", "method": entry.name, "params": {"no such": 1}, "id": 1}
        async with reader.post(f"{url}/rpc", json=request) as response:
            error = (await response.json())["error"]
        assert (error["data"]["code"] == "reading_token") is entry.mutates, entry.name
        if entry.mutates:
            assert error["data"]["hint"] == "dms token prints the full one"
    async with reader.post(f"{url}/rpc", json={"jsonrpc": "2.0", "method": "node.status", "id": 1}) as response:
        assert (await response.json())["result"]["name"] == "workshop"


async def test_a_reading_token_in_a_batch_or_without_an_answer_changes_nothing(
    url: str, reader: aiohttp.ClientSession
) -> None:
    pause = {"jsonrpc": "2.0", "method": "node.pause"}
    async with reader.post(f"{url}/rpc", json=pause) as response:
        assert response.status == 204
    batch = [{**pause, "id": 1}, {"jsonrpc": "2.0", "method": "node.status", "id": 2}]
    async with reader.post(f"{url}/rpc", json=batch) as response:
        refused, status = await response.json()
    assert refused["error"]["data"]["code"] == "reading_token"
    assert status["result"]["state"] == "running"


async def test_a_websocket_opened_with_a_reading_token_follows_and_changes_nothing(
    url: str, reader: aiohttp.ClientSession
) -> None:
    async with reader.ws_connect(f"{url}/ws") as ws:
        await ws.send_json({"jsonrpc": "2.0", "method": "node.stop", "params": {}, "id": 1})
        assert (await ws.receive_json())["error"]["data"]["code"] == "reading_token"
        await ws.send_json({"jsonrpc": "2.0", "method": "subscribe", "params": {"topic": "events"}, "id": 2})
        assert (await ws.receive_json())["result"] == {"subscription": "s1"}
        assert (await ws.receive_json())["method"] == "update"


async def test_a_rotated_token_opens_nothing_and_its_websocket_is_closed(
    url: str, http: aiohttp.ClientSession, reader: aiohttp.ClientSession, home: Home
) -> None:
    async with http.ws_connect(f"{url}/ws") as ws:
        await ws.send_json(PING)
        assert "result" in await ws.receive_json()
        rotate_token(home.token)
        await ws.send_json(PING)
        assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE
        assert ws.close_code == 1008
    for session, status in ((http, 401), (reader, 200)):
        async with session.post(f"{url}/rpc", json=PING) as response:
            assert response.status == status
    async with caller(home, Access.FULL) as renewed, renewed.post(f"{url}/rpc", json=PING) as response:
        assert response.status == 200


async def test_what_is_followed_with_a_token_ends_with_it(
    dispatcher: Dispatcher, url: str, http: aiohttp.ClientSession, home: Home, node: MemoryNode
) -> None:
    async with http.ws_connect(f"{url}/ws") as ws:
        await ws.send_json({"jsonrpc": "2.0", "method": "subscribe", "params": {"topic": "events"}, "id": 1})
        for _ in range(4):  # the answer, and the three events there are
            await ws.receive_json()
        rotate_token(home.token)
        node._note("node", "Secret", "c")
        assert (await ws.receive()).type is aiohttp.WSMsgType.CLOSE


# --------------------------------------------------------------------------------------- what somebody without a token can hold


async def test_more_connections_than_the_limit_are_cut_off_and_the_rest_are_served(
    url: str, http: aiohttp.ClientSession
) -> None:
    port = int(url.rpartition(":")[2])
    async with http.post(f"{url}/rpc", json=PING) as response:
        assert response.status == 200
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS - 1)]
    async with http.post(f"{url}/rpc", json=PING) as response:  # on the connection that was there first
        assert response.status == 200
    reader, late = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(10):
        assert await reader.read() == b""
    for _, writer in (*held, (reader, late)):
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_those_that_come_at_the_same_moment_are_counted_one_by_one(url: str) -> None:
    """While the loop is busy the kernel lets a whole queue of them in, and asyncio takes them all up in one go."""
    port, room, at_once = int(url.rpartition(":")[2]), 5, 50
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS - room)]
    waiting = [socket.create_connection(("127.0.0.1", port)) for _ in range(at_once)]
    for each in waiting:
        each.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    opened = [await asyncio.open_connection(sock=each) for each in waiting]
    async with asyncio.timeout(10):
        said = [await _first_line(reader) for reader, _ in opened]
    assert said.count(b"HTTP/1.1 200 OK\r\n") == room
    assert said.count(b"") == at_once - room
    for _, writer in (*held, *opened):
        writer.close()


async def _first_line(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readline()
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"POST /rpc HT",
        b"POST /rpc HTTP/1.1\r\nHost: localhost\r\n",
        b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer TOKEN\r\n"
        b"Content-Type: application/json\r\nContent-Length: 10\r\n\r\n[",
        b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n[",
    ],
)
async def test_what_is_never_said_to_its_end_is_given_up(
    dispatcher: Dispatcher, tokens: Tokens, home: Home, half: bytes
) -> None:
    server = HttpServer(dispatcher, HttpOptions(idle_s=0.05), tokens)
    port = int((await server.start()).rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(half.replace(b"TOKEN", home.token.read_bytes().strip()))
    async with asyncio.timeout(10):
        said = await reader.read()
    assert said == b"" or said.split()[1] in (b"401", b"408")
    writer.close()
    await server.stop()


@asynccontextmanager
async def with_tls(
    dispatcher: Dispatcher, tokens: Tokens, directory: Path, idle_s: float
) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """A server on loopback with TLS: its port, and what trusts it."""
    certificate, key = _certificate(directory)
    server = HttpServer(dispatcher, HttpOptions(certificate=certificate, key=key, idle_s=idle_s), tokens)
    port = int((await server.start()).rpartition(":")[2])
    try:
        yield port, ssl.create_default_context(cafile=str(certificate))
    finally:
        await server.stop()


async def test_handshakes_count_as_connections(
    dispatcher: Dispatcher, tokens: Tokens, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Sockets that open and say nothing hold no more than others."""
    async with with_tls(dispatcher, tokens, tmp_path, idle_s=600) as (port, trusting):
        rpc = f"https://localhost:{port}/rpc"
        async with http.post(rpc, json=PING, ssl=trusting) as response:  # it keeps its connection
            assert response.status == 200
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS)]
        reader, _ = opened[-1]
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        async with http.post(rpc, json=PING, ssl=trusting) as response:
            assert response.status == 200
        for _, writer in opened:
            writer.close()


async def test_a_handshake_that_is_never_begun_is_given_up(
    dispatcher: Dispatcher, tokens: Tokens, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with with_tls(dispatcher, tokens, tmp_path, idle_s=0.05) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


async def test_what_is_said_with_the_end_of_the_handshake_is_heard(
    dispatcher: Dispatcher, tokens: Tokens, tmp_path: Path
) -> None:
    """The last message of the handshake and the first request come in one packet."""
    async with with_tls(dispatcher, tokens, tmp_path, idle_s=5) as (port, trusting):
        said, heard = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting.wrap_bio(heard, said, server_hostname="localhost")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(said.read())
                heard.write(await reader.read(65536))
        tls.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        writer.write(said.read())
        answer = b""
        async with asyncio.timeout(10):
            while not answer.endswith(b"}"):
                heard.write(await reader.read(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    answer += tls.read(65536)
        assert answer.startswith(b"HTTP/1.1 200")
        writer.close()


async def test_what_is_no_tls_is_cut_off_at_once(dispatcher: Dispatcher, tokens: Tokens, tmp_path: Path) -> None:
    async with with_tls(dispatcher, tokens, tmp_path, idle_s=600) as (port, _):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                assert b"200" not in await reader.read()
        writer.close()


# ------------------------------------------------------------------------------------------------------------- where to bind


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "node.example"])
async def test_beyond_loopback_needs_tls(dispatcher: Dispatcher, tokens: Tokens, host: str) -> None:
    with pytest.raises(MachineError) as caught:
        await HttpServer(dispatcher, HttpOptions(host=host), tokens).start()
    assert caught.value.code == "unsafe_bind"
    assert "rpc.tls_certificate" in caught.value.hint


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("half", [{"certificate": Path("cert.pem")}, {"key": Path("key.pem")}])
async def test_half_of_tls_is_not_taken_for_none(
    dispatcher: Dispatcher, tokens: Tokens, host: str, half: dict[str, Path]
) -> None:
    with pytest.raises(MachineError) as caught:
        await HttpServer(dispatcher, HttpOptions(host, **half), tokens).start()
    assert caught.value.code == "unsafe_bind"


async def test_a_taken_port_is_named(dispatcher: Dispatcher, tokens: Tokens) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MachineError) as caught:
            await HttpServer(dispatcher, HttpOptions(port=port), tokens).start()
    assert caught.value.code == "port_in_use"
    assert str(port) in caught.value.message


async def test_tls_files_that_cannot_be_used_are_named(dispatcher: Dispatcher, tokens: Tokens, tmp_path: Path) -> None:
    options = HttpOptions(host="0.0.0.0", certificate=tmp_path / "none.pem", key=tmp_path / "none.key")
    with pytest.raises(MachineError, match="TLS files cannot be used"):
        await HttpServer(dispatcher, options, tokens).start()


async def test_with_tls_it_serves_beyond_loopback_by_the_names_it_was_given(
    dispatcher: Dispatcher, tokens: Tokens, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    certificate, key = _certificate(tmp_path)
    options = HttpOptions(host="0.0.0.0", certificate=certificate, key=key, names=("Node.Example",))
    server = HttpServer(dispatcher, options, tokens)
    url = await server.start()
    trusting = ssl.create_default_context(cafile=str(certificate))
    port = url.rpartition(":")[2]
    for name, status in (("node.example", 200), ("other.example", 403)):
        async with http.post(
            f"https://localhost:{port}/rpc", json=PING, ssl=trusting, headers={"Host": name}
        ) as response:
            assert response.status == status
    async with (
        aiohttp.ClientSession() as stranger,
        stranger.post(f"https://localhost:{port}/rpc", json=PING, ssl=trusting) as response,
    ):
        assert response.status == 401
    await server.stop()


def _certificate(directory: Path) -> tuple[Path, Path]:
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (directory / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (directory / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return directory / "cert.pem", directory / "key.pem"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("x", False),
    ],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


async def test_stopping_ends_websockets(dispatcher: Dispatcher, tokens: Tokens, http: aiohttp.ClientSession) -> None:
    server = HttpServer(dispatcher, HttpOptions(), tokens)
    url = await server.start()
    async with http.ws_connect(f"{url}/ws") as ws:
        async with asyncio.timeout(10):
            stopping = asyncio.create_task(server.stop())
            message = await ws.receive()
            await ws.close()
            await stopping
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    await server.stop()
