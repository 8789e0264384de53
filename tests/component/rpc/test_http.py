"""HTTP and WebSocket on loopback: safe by default, and the same methods as on the socket."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from dms.jobs.check import job_of
from dms.jobs.resolve import resolve
from dms.rpc.api import METHODS
from dms.rpc.api.jobs import SubmitParams
from dms.rpc.dispatcher import MAX_REQUEST_BYTES, Dispatcher
from dms.rpc.http import HttpOptions, HttpServer, is_loopback
from dms.testing.node_api import MemoryNode
from dms_proto.errors import MachineError

TOKEN = "t" * 43
PING = {"jsonrpc": "2.0", "method": "rpc.ping", "id": 1}


@pytest.fixture
def dispatcher(tmp_path: Path) -> Dispatcher:
    return Dispatcher(MemoryNode(tmp_path), METHODS, "0.1.0", lambda: {"openrpc": "1"})


@pytest.fixture
async def url(dispatcher: Dispatcher) -> AsyncIterator[str]:
    server = HttpServer(dispatcher, HttpOptions(token=TOKEN))
    yield await server.start()
    await server.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {TOKEN}"}, timeout=aiohttp.ClientTimeout(10)
    ) as session:
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
        ({"Authorization": "Basic " + TOKEN}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": "", "X-API-Key": TOKEN}, 200),
        ({"Authorization": f"bearer {TOKEN}"}, 200),
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
async def test_who_may_come_in(url: str, http: aiohttp.ClientSession, headers: dict[str, str], status: int) -> None:
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
    "headers", [{"Authorization": "Bearer wrong"}, {"Origin": "https://evil.example"}, {"Host": "evil.example"}]
)
async def test_a_websocket_asks_the_same_of_who_comes(
    url: str, http: aiohttp.ClientSession, headers: dict[str, str]
) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await http.ws_connect(f"{url}/ws", headers=headers)
    assert caught.value.status in (401, 403)


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


# ------------------------------------------------------------------------------------------------------------- where to bind


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "node.example"])
async def test_beyond_loopback_needs_tls(dispatcher: Dispatcher, host: str) -> None:
    with pytest.raises(MachineError) as caught:
        await HttpServer(dispatcher, HttpOptions(host=host, token=TOKEN)).start()
    assert caught.value.code == "unsafe_bind"
    assert "rpc.tls_certificate" in caught.value.hint


async def test_no_token_no_http(dispatcher: Dispatcher) -> None:
    with pytest.raises(MachineError) as caught:
        await HttpServer(dispatcher, HttpOptions()).start()
    assert caught.value.code == "unsafe_bind"


async def test_a_taken_port_is_named(dispatcher: Dispatcher) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(MachineError) as caught:
            await HttpServer(dispatcher, HttpOptions(port=port, token=TOKEN)).start()
    assert caught.value.code == "port_in_use"
    assert str(port) in caught.value.message


async def test_tls_files_that_cannot_be_used_are_named(dispatcher: Dispatcher, tmp_path: Path) -> None:
    options = HttpOptions(host="0.0.0.0", token=TOKEN, certificate=tmp_path / "none.pem", key=tmp_path / "none.key")
    with pytest.raises(MachineError, match="TLS files cannot be used"):
        await HttpServer(dispatcher, options).start()


async def test_with_tls_it_serves_beyond_loopback(dispatcher: Dispatcher, tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    server = HttpServer(
        dispatcher, HttpOptions(host="0.0.0.0", token=TOKEN, certificate=certificate, key=key, names=("localhost",))
    )
    url = await server.start()
    trusting = ssl.create_default_context(cafile=str(certificate))
    port = url.rpartition(":")[2]
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.post(f"https://localhost:{port}/rpc", json=PING, ssl=trusting) as response,
    ):
        assert response.status == 200
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


async def test_stopping_ends_websockets(dispatcher: Dispatcher) -> None:
    server = HttpServer(dispatcher, HttpOptions(token=TOKEN))
    url = await server.start()
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session,
        session.ws_connect(f"{url}/ws") as ws,
    ):
        async with asyncio.timeout(10):
            stopping = asyncio.create_task(server.stop())
            message = await ws.receive()
            await ws.close()
            await stopping
    assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
    await server.stop()
