"""JSON-RPC over HTTP, when asked for: POST /rpc, WebSocket /ws, and GET /health, which only says that somebody is there.

A web page in the owner's browser can reach loopback, so loopback is no protection: every request but /health shows the bearer token, names a
host we are (or a name was rebound to us), and comes from no page of another origin. A bind beyond loopback needs TLS as well.

aiohttp costs 150 ms and 20 MB, so this module is imported only where HTTP is switched on.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from dms.rpc.dispatcher import MAX_REQUEST_BYTES, Dispatcher
from dms.rpc.session import Session
from dms.rpc.token import is_token
from dms_proto.errors import MachineError

logger = logging.getLogger(__name__)

MAX_SOCKETS: Final = 32
MAX_CALLS_AT_ONCE: Final = 32
SEND_TIMEOUT_S: Final = 30.0
PING_S: Final = 20.0
SHUTDOWN_S: Final = 2.0
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpOptions(msgspec.Struct, frozen=True):
    """Where and how to listen.

    Attributes:
        host: address to bind.
        port: 0 lets the system choose.
        token: bearer token; empty refuses to start.
        certificate: PEM file, or None for plain HTTP.
        key: PEM file of the certificate's key.
        names: further host names by which this node is addressed, beside `host` and those of loopback.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str = ""
    certificate: Path | None = None
    key: Path | None = None
    names: tuple[str, ...] = ()


class HttpServer:
    """Serves one dispatcher over HTTP. Lives on the node's asyncio loop."""

    def __init__(self, dispatcher: Dispatcher, options: HttpOptions) -> None:
        self._dispatcher = dispatcher
        self._options = options
        self._runner: web.AppRunner | None = None
        self._sockets: set[web.WebSocketResponse] = set()
        self._hosts = LOOPBACK_NAMES | {_bracketed(options.host), *options.names}

    async def start(self) -> str:
        """Listens; gives the URL, with the port the system chose.

        Raises:
            MachineError: `unsafe_bind`, `port_in_use`; also when TLS files cannot be read (`store_failed`).
        """
        tls = _tls(self._options)
        _refuse_unsafe(self._options, tls)
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/rpc", self._post)
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/health", _health)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._options.host, self._options.port, ssl_context=tls)
        try:
            await site.start()
        except OSError as error:
            await self.stop()
            where = f"{self._options.host}:{self._options.port}"
            raise MachineError(
                "port_in_use", f"{where} cannot be bound: {error.strerror}", hint="set rpc.port"
            ) from error
        port = self._runner.addresses[0][1]
        return f"{'https' if tls else 'http'}://{_bracketed(self._options.host)}:{port}"

    async def stop(self) -> None:
        """Ends all connections. Idempotent."""
        closing = [socket.close(code=WSCloseCode.GOING_AWAY, message=b"the node stops") for socket in self._sockets]
        await asyncio.gather(*closing)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # --------------------------------------------------------------------------------------------------- who may come in

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_our_name(request.headers.get("Host", "")):
            raise web.HTTPForbidden(text="the Host header does not name this node")
        origin = request.headers.get("Origin")
        if origin is not None and not self._is_our_origin(origin):
            raise web.HTTPForbidden(text="pages of other origins are refused")
        if request.path != "/health" and not self._has_token(request):
            raise web.HTTPUnauthorized(text="a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})
        return await handler(request)

    def _is_our_name(self, host: str) -> bool:
        name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        return name.lower() in self._hosts

    def _is_our_origin(self, origin: str) -> bool:
        try:
            parts = urlsplit(origin)
            name = _bracketed(parts.hostname or "")
            port = parts.port
        except ValueError:
            return False
        ours = self._runner.addresses[0][1] if self._runner and self._runner.addresses else 0
        scheme = "https" if self._options.certificate else "http"
        return parts.scheme == scheme and name in self._hosts and port == ours

    def _has_token(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = request.headers.get("X-API-Key", "")
        return is_token(given.strip(), self._options.token)

    # ------------------------------------------------------------------------------------------------------------ requests

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            # A form post needs no permission of the browser; a JSON one of another origin does.
            raise web.HTTPUnsupportedMediaType(text="Content-Type must be application/json")
        reply = await self._dispatcher.handle(await request.read())
        if reply.data is None:
            return web.Response(status=204)
        return web.Response(body=reply.data, content_type="application/json")

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if len(self._sockets) >= MAX_SOCKETS:
            raise web.HTTPServiceUnavailable(text=f"more than {MAX_SOCKETS} WebSockets")
        socket = web.WebSocketResponse(max_msg_size=MAX_REQUEST_BYTES, heartbeat=PING_S, timeout=SHUTDOWN_S)
        await socket.prepare(request)
        self._sockets.add(socket)
        try:
            await _WebSession(self._dispatcher, socket).serve()
        finally:
            self._sockets.discard(socket)
        return socket


class _WebSession:
    """One WebSocket: a message is a request, a batch or a notification."""

    def __init__(self, dispatcher: Dispatcher, socket: web.WebSocketResponse) -> None:
        self._dispatcher = dispatcher
        self._socket = socket
        self._session = Session(self._send)
        self._free = asyncio.Semaphore(MAX_CALLS_AT_ONCE)
        self._calls: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        try:
            async for message in self._socket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    break
                data = message.data.encode() if isinstance(message.data, str) else message.data
                await self._free.acquire()
                task = asyncio.create_task(self._answer(data))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
        finally:
            await self._session.close()
            for task in self._calls:
                task.cancel()

    async def _answer(self, data: bytes) -> None:
        try:
            reply = await self._dispatcher.handle(data, self._session)
            if reply.data is not None:
                await self._send(reply.data)
            for start in reply.after:
                start()
        except OSError:
            logger.debug("a WebSocket went away before its answer")
        finally:
            self._free.release()

    async def _send(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._socket.send_str(data.decode())
        except TimeoutError:
            await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
            raise ConnectionAbortedError("the reader takes nothing") from None


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address bound to `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _refuse_unsafe(options: HttpOptions, tls: ssl.SSLContext | None) -> None:
    if not options.token:
        raise MachineError("unsafe_bind", "HTTP without a token would serve every program on this machine")
    if not is_loopback(options.host) and tls is None:
        raise MachineError(
            "unsafe_bind",
            f"{options.host} is not loopback, and without TLS the token would cross the network in the clear",
            hint="set rpc.tls_certificate and rpc.tls_key, or rpc.host to 127.0.0.1",
        )


def _tls(options: HttpOptions) -> ssl.SSLContext | None:
    if options.certificate is None or options.key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise MachineError("store_failed", f"the TLS files cannot be used: {error}") from error
    return context


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
