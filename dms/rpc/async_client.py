"""The asyncio client, for programs and tests: many calls at once over one connection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self, TypeVar, overload

import msgspec

from dms.rpc.api.execs import AllocationExecParams, JobExecParams
from dms.rpc.api.tunnels import TunnelOpened, TunnelParams
from dms.rpc.client import ConnectionLost
from dms.rpc.jsonrpc import error_of
from dms_proto.errors import UserError

T = TypeVar("T")

MAX_LINE_BYTES: Final = 64 * 1024 * 1024
TUNNEL_READ_AHEAD: Final = 128 * 1024
"""Half of the bytes that a reader of a tunnel may have ahead of who reads from it."""
QUEUE_ITEMS: Final = 1024
"""Updates kept for a follower that is slower than the feed; past it the connection is not read, which slows the node's sending."""


class AsyncClient:
    """A connection to a node. Make one with `connect`; lives on the loop it was made on."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._count = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._feeds: dict[str, asyncio.Queue[dict[str, Any] | None]] = {}
        self._dropped: set[str] = set()
        self._lost: ConnectionLost | None = None
        self._task = asyncio.create_task(self._read(), name="rpc client")

    @classmethod
    async def connect(cls, path: Path) -> Self:
        """Connects to the socket at `path`.

        Raises:
            UserError: `node_not_running`.
        """
        return cls(*await _connection(path))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; what waits for it gets `ConnectionLost`. Idempotent."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    @overload
    async def call(self, method: str, params: object = ...) -> Any: ...
    @overload
    async def call(self, method: str, params: object, result: type[T]) -> T: ...
    async def call(self, method: str, params: object = None, result: type[T] | None = None) -> T | Any:
        """Calls a method; `asyncio.timeout` bounds it.

        Raises:
            DmsError: as the node raised it.
            ConnectionLost: the node went away.
        """
        if self._lost is not None:
            raise self._lost
        self._count += 1
        number = self._count
        request: dict[str, Any] = {"jsonrpc": "2.0", "id": number, "method": method}
        if params is not None:
            request["params"] = params
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            self._write(request)
            await self._writer.drain()
            message = await answer
        except OSError as error:
            raise ConnectionLost("node_not_running", f"the node went away: {error}") from error
        finally:
            self._answers.pop(number, None)
        if message.get("error") is not None:
            raise error_of(message["error"])
        return message.get("result") if result is None else msgspec.convert(message.get("result"), result)

    async def follow(self, topic: str, params: object) -> AsyncIterator[dict[str, Any]]:
        """The items of a feed until its end, as plain mappings.

        Raises:
            DmsError: the feed ended with an error.
            ConnectionLost: the node went away; follow again with `since`.
        """
        answer = await self.call("subscribe", {"topic": topic, "params": params})
        name = answer["subscription"]
        queue = self._feed(name)
        try:
            while not (queue.empty() and self._lost):
                message = await queue.get()
                if message is None:
                    break
                if message["method"] == "end":
                    if message["params"].get("error") is not None:
                        raise error_of(message["params"]["error"])
                    return
                yield message["params"]["item"]
            raise self._lost or ConnectionLost("node_not_running", "the node went away")
        finally:
            self._feeds.pop(name, None)
            self._dropped.add(name)
            if self._lost is None:
                self._write({"jsonrpc": "2.0", "method": "unsubscribe", "params": {"subscription": name}})

    def _write(self, request: dict[str, Any]) -> None:
        self._writer.write(msgspec.json.encode(request) + b"\n")

    def _feed(self, name: str) -> asyncio.Queue[dict[str, Any] | None]:
        return self._feeds.setdefault(name, asyncio.Queue(QUEUE_ITEMS))

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                await self._take(msgspec.json.decode(line))
        except (OSError, ValueError) as error:
            self._lost = ConnectionLost("node_not_running", f"the node went away: {error}")
        finally:
            self._lost = self._lost or ConnectionLost("node_not_running", "the node went away")
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(self._lost)
            for queue in self._feeds.values():
                with contextlib.suppress(asyncio.QueueFull):
                    queue.put_nowait(None)

    async def _take(self, message: dict[str, Any]) -> None:
        if "method" in message:
            name = message["params"]["subscription"]
            if name not in self._dropped:
                await self._feed(name).put(message)
            return
        answer = self._answers.get(message.get("id", -1))
        if answer is not None and not answer.done():
            answer.set_result(message)


class OpenTunnel(NamedTuple):
    """A tunnel, and its bytes."""

    opened: TunnelOpened
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def open_tunnel(
    path: Path, params: TunnelParams | JobExecParams | AllocationExecParams, method: str = "tunnel.open"
) -> OpenTunnel:
    """Opens a tunnel on a connection of its own to the node at `path`; `asyncio.timeout` bounds it. `method`: tunnel.open, job.exec or alloc.exec.

    Raises:
        DmsError: as the node raised it.
        ConnectionLost: the node went away.
    """
    return OpenTunnel(*await handed_over(path, method, params, TunnelOpened))


async def handed_over(
    path: Path, method: str, params: msgspec.Struct, answer_type: type[T]
) -> tuple[T, asyncio.StreamReader, asyncio.StreamWriter]:
    """Calls a method that takes over the connection it is called on; gives the answer and the connection. `asyncio.timeout` bounds it.

    Raises:
        DmsError: as the node raised it.
        ConnectionLost: the node went away.
    """
    reader, writer = await _connection(path, TUNNEL_READ_AHEAD)
    try:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        writer.write(msgspec.json.encode(request) + b"\n")
        line = await reader.readline()
        if not line:
            raise ConnectionLost("node_not_running", "the node went away")
        answer = msgspec.json.decode(line)
        if answer.get("error") is not None:
            raise error_of(answer["error"])
        return msgspec.convert(answer["result"], answer_type), reader, writer
    except OSError as error:
        writer.close()
        raise ConnectionLost("node_not_running", f"the node went away: {error}") from error
    except BaseException:
        writer.close()
        raise


async def _connection(path: Path, limit: int = MAX_LINE_BYTES) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        return await asyncio.open_unix_connection(str(path), limit=limit)
    except OSError as error:
        raise UserError(
            "node_not_running", f"no node answers on {path}", hint="dms up -d starts one", retryable=True
        ) from error
