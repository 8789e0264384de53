"""JSON-RPC over HTTP, when asked for: POST /rpc, WebSocket /ws, and GET /health, which only says that somebody is there.

A web page in the owner's browser can reach loopback, so loopback is no protection: every request but /health shows a bearer token, names a
host we are (or a name was rebound to us), and comes from no page of another origin. A bind beyond loopback needs TLS as well (`exposure`).
Connections are few, those without a finished TLS handshake included, and one that says nothing whole for a while is closed: what somebody without a
token can hold is bounded.

aiohttp costs 150 ms and 20 MB, so this module is imported only where HTTP is switched on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

from dms.rpc.arrival import Arrival, hand_over
from dms.rpc.dispatcher import MAX_REQUEST_BYTES, Dispatcher
from dms.rpc.exposure import HttpOptions, tls_of
from dms.rpc.handshakes import Handshakes
from dms.rpc.registry import Access
from dms.rpc.session import Session
from dms.rpc.token import Tokens
from dms_proto.errors import MachineError

logger = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 128
"""Of all kinds; each costs a file descriptor, which running jobs need too. Further ones are cut off."""
MAX_SOCKETS: Final = 32
MAX_CALLS_AT_ONCE: Final = 32
SEND_TIMEOUT_S: Final = 30.0
PING_S: Final = 20.0
SHUTDOWN_S: Final = 2.0
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class HttpServer:
    """Serves one dispatcher over HTTP. Lives on the node's asyncio loop."""

    def __init__(self, dispatcher: Dispatcher, options: HttpOptions, tokens: Tokens) -> None:
        self._dispatcher = dispatcher
        self._options = options
        self._tokens = tokens
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._handshakes: Handshakes | None = None
        self._sockets: set[web.WebSocketResponse] = set()
        self._hosts = LOOPBACK_NAMES | {name.lower() for name in (_bracketed(options.host), *options.names)}

    async def start(self) -> str:
        """Listens; gives the URL, with the port the system chose.

        Raises:
            MachineError: `unsafe_bind`, `port_in_use`; also when TLS files cannot be read (`store_failed`).
        """
        tls, idle_s = tls_of(self._options), self._options.idle_s
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_REQUEST_BYTES)
        app.router.add_post("/rpc", self._post)
        app.router.add_get("/ws", self._socket)
        app.router.add_get("/health", _health)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=SHUTDOWN_S, keepalive_timeout=idle_s, lingering_time=idle_s
        )
        await self._runner.setup()
        assert self._runner.server is not None
        self._handshakes = Handshakes(tls, idle_s, self._runner.server) if tls else None
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._accept, self._options.host, self._options.port
            )
        except OSError as error:
            await self.stop()
            where = f"{self._options.host}:{self._options.port}"
            raise MachineError(
                "port_in_use", f"{where} cannot be bound: {error.strerror}", hint="set rpc.port"
            ) from error
        return f"{'https' if tls else 'http'}://{_bracketed(self._options.host)}:{self._port}"

    async def stop(self) -> None:
        """Ends all connections. Idempotent."""
        closing = [socket.close(code=WSCloseCode.GOING_AWAY, message=b"the node stops") for socket in self._sockets]
        await asyncio.gather(*closing)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._handshakes is not None:
            await self._handshakes.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def _port(self) -> int:
        port: int = self._listener.sockets[0].getsockname()[1] if self._listener else 0
        return port

    # --------------------------------------------------------------------------------------------------- who may come in

    def _accept(self) -> asyncio.Protocol:
        """What speaks on the next connection until it is there: asyncio asks for all that wait at once, before any of them can be counted."""
        return Arrival(self._admit)

    def _admit(self, transport: asyncio.Transport) -> None:
        server, handshakes = self._runner.server if self._runner else None, self._handshakes
        if server is None or len(server.connections) + len(handshakes or ()) >= MAX_CONNECTIONS:
            transport.abort()
        elif handshakes is not None:
            handshakes.begin(transport)
        else:
            hand_over(transport, server())

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not self._is_our_name(request.headers.get("Host", "")):
            raise web.HTTPForbidden(text="the Host header does not name this node")
        origin = request.headers.get("Origin")
        if origin is not None and not self._is_our_origin(origin):
            raise web.HTTPForbidden(text="pages of other origins are refused")
        if request.path != "/health" and self._tokens.access_of(_shown(request)) is None:
            raise _unauthorised()
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
        scheme = "https" if self._options.certificate else "http"
        return parts.scheme == scheme and name in self._hosts and port == self._port

    # ------------------------------------------------------------------------------------------------------------ requests

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/json":
            # A form post needs no permission of the browser; a JSON one of another origin does.
            raise web.HTTPUnsupportedMediaType(text="Content-Type must be application/json")
        try:
            async with asyncio.timeout(self._options.idle_s):
                body = await request.read()
        except TimeoutError:
            raise web.HTTPRequestTimeout(text=f"the body did not come within {self._options.idle_s:.0f} s") from None
        access = self._tokens.access_of(_shown(request))  # as it is now: the body may have taken its time
        if access is None:
            raise _unauthorised()
        reply = await self._dispatcher.handle(body, access=access)
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
            await _WebSession(self._dispatcher, socket, self._tokens, _shown(request)).serve()
        finally:
            self._sockets.discard(socket)
        return socket


class _WebSession:
    """One WebSocket: a message is a request, a batch or a notification. It lasts as long as the token it was opened with."""

    def __init__(self, dispatcher: Dispatcher, socket: web.WebSocketResponse, tokens: Tokens, shown: str) -> None:
        self._dispatcher = dispatcher
        self._socket = socket
        self._tokens = tokens
        self._shown = shown
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
            access = await self._access()
            reply = await self._dispatcher.handle(data, self._session, access)
            if reply.data is not None:
                await self._send(reply.data)
            for start in reply.after:
                start()
        except OSError:
            logger.debug("a WebSocket went away before its answer")
        finally:
            self._free.release()

    async def _access(self) -> Access:
        access = self._tokens.access_of(self._shown)
        if access is None:
            await self._socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"the token was rotated")
            raise ConnectionAbortedError("the token was rotated")
        return access

    async def _send(self, data: bytes) -> None:
        await self._access()
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._socket.send_str(data.decode())
        except TimeoutError:
            await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
            raise ConnectionAbortedError("the reader takes nothing") from None


def _shown(request: web.Request) -> str:
    """The token that a caller shows."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        given = request.headers.get("X-API-Key", "")
    return given.strip()


def _unauthorised() -> web.HTTPUnauthorized:
    return web.HTTPUnauthorized(text="a bearer token is needed", headers={"WWW-Authenticate": "Bearer"})


async def _health(_request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"})


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
