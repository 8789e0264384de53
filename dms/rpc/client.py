"""The synchronous client: a socket, json, and nothing else until something needs more. For the command line and small scripts.

::

    with Client(home.socket) as node:
        job = node.call("job.submit", SubmitParams(spec), Submitted)
        for item in node.follow("job", {"job_id": job.job_id}):
            ...

One thread per client; calls are answered in order. A connection that breaks raises `ConnectionLost`; what was followed can be followed again from
the last id (`since`).
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload

from dms_proto.errors import UserError

T = TypeVar("T")

CALL_TIMEOUT_S: Final = 30.0
CONNECT_TIMEOUT_S: Final = 5.0
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
_READ_BYTES: Final = 64 * 1024


class ConnectionLost(UserError):  # noqa: N818 - named as what happened; the root class says it is an error
    """The node went away in the middle. It may have been stopped, or be restarting."""

    retryable_by_default = True


class Client:
    """A connection to the node of this machine's user.

    Args:
        path: of the Unix socket, `Home.socket`.
        timeout: seconds that a call may take unless it says otherwise.

    Raises:
        UserError: `node_not_running`: nothing answers on `path`.
    """

    def __init__(self, path: Path, *, timeout: float = CALL_TIMEOUT_S) -> None:
        self._path = path
        self._timeout = timeout
        self._socket = _connect(path)
        self._buffer = bytearray()
        self._searched = 0
        self._count = 0
        self._dropped: set[str] = set()
        self._waiting: dict[str, list[dict[str, Any]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Idempotent."""
        self._socket.close()

    @overload
    def call(self, method: str, params: object = ..., *, timeout: float | None = ...) -> Any: ...
    @overload
    def call(self, method: str, params: object, result: type[T], *, timeout: float | None = ...) -> T: ...
    def call(
        self, method: str, params: object = None, result: type[T] | None = None, *, timeout: float | None = None
    ) -> T | Any:
        """Calls a method.

        Args:
            method: such as "node.status".
            params: a struct of `dms.rpc.api`, a mapping, or None for none.
            result: the struct to read the answer as; None for plain dicts and lists.
            timeout: seconds; None for the client's own.

        Raises:
            DmsError: as the node raised it.
            ConnectionLost: the node went away, or did not answer in time.
        """
        return _typed(self.ask(method, params, timeout=timeout)(), result)

    def ask(self, method: str, params: object = None, *, timeout: float | None = None) -> Callable[[], Any]:
        """Sends a call, and gives what waits for its answer: for a caller who has something to do between.

        Raises:
            ConnectionLost: it could not be sent. The answer raises as `call` does, when the node says no or nothing in time.
        """
        self._count += 1
        request: dict[str, Any] = {"jsonrpc": "2.0", "id": self._count, "method": method}
        if params is not None:
            request["params"] = _plain(params)
        self._write(request)
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        number = self._count
        return lambda: self._answer(number, method, deadline)

    def _answer(self, number: int, method: str, deadline: float) -> Any:
        while True:
            message = self._read(deadline, f"{method} did not answer")
            if "method" in message:
                self._keep(message)
            elif message.get("id") in (number, None):
                _raise_error(message)
                return message.get("result")

    def follow(self, topic: str, params: object) -> Iterator[dict[str, Any]]:
        """The items of a feed as they come, until its end; waits without a deadline.

        They are plain mappings: `dms.rpc.api.jobs.read_update` and `msgspec.convert` give them their types.

        Raises:
            DmsError: the feed ended with an error.
            ConnectionLost: the node went away; follow again with `since`.
        """
        answer = self.call("subscribe", {"topic": topic, "params": _plain(params)})
        name = answer["subscription"]
        try:
            while True:
                kept = self._waiting.get(name)
                message = kept.pop(0) if kept else self._read(None, "")
                if "method" not in message:
                    continue
                if message["params"].get("subscription") != name:
                    self._keep(message)
                elif message["method"] == "end":
                    _raise_error(message["params"])
                    return
                else:
                    yield message["params"]["item"]
        finally:
            self._drop(name)

    def _keep(self, message: dict[str, Any]) -> None:
        name = message["params"].get("subscription", "")
        if name not in self._dropped:
            self._waiting.setdefault(name, []).append(message)

    def _drop(self, name: str) -> None:
        """Ends a subscription whose follower stopped; what is still under way of it is thrown away."""
        self._dropped.add(name)
        self._waiting.pop(name, None)
        with contextlib.suppress(ConnectionLost):
            self._write({"jsonrpc": "2.0", "method": "unsubscribe", "params": {"subscription": name}})

    def _write(self, request: dict[str, Any]) -> None:
        try:
            self._socket.settimeout(self._timeout)
            self._socket.sendall(json.dumps(request, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise _lost(self._path, error) from error

    def _read(self, deadline: float | None, late: str) -> dict[str, Any]:
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_LINE_BYTES:
                raise ConnectionLost("node_not_running", f"the node sent a line of more than {MAX_LINE_BYTES} bytes")
            self._receive(deadline, late)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise ConnectionLost("node_not_running", "what answers on the socket does not speak JSON-RPC")
        return message

    def _receive(self, deadline: float | None, late: str) -> None:
        remaining = None if deadline is None else max(deadline - time.monotonic(), 0.001)
        self._socket.settimeout(remaining)
        try:
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError as error:
            raise ConnectionLost(
                "node_not_running", f"{late} in time", hint="the node may be busy; try again"
            ) from error
        except OSError as error:
            raise _lost(self._path, error) from error
        if not data:
            raise _lost(self._path, None)
        self._buffer += data


def _connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(CONNECT_TIMEOUT_S)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        why = (
            "no node is running"
            if isinstance(error, FileNotFoundError | ConnectionRefusedError)
            else f"no node answers ({error})"
        )
        raise UserError("node_not_running", f"{why} on {path}", hint="dms up -d starts one", retryable=True) from error
    return connection


def _lost(path: Path, error: OSError | None) -> ConnectionLost:
    why = f": {error.strerror}" if error is not None and error.strerror else ""
    return ConnectionLost(
        "node_not_running", f"the node on {path} went away{why}", hint="dms status shows whether it is back"
    )


def _plain(params: object) -> Any:
    if isinstance(params, dict):
        return params
    import msgspec  # noqa: PLC0415 - only for typed parameters

    return msgspec.to_builtins(params)


def _raise_error(message: dict[str, Any]) -> None:
    if message.get("error") is not None:
        from dms.rpc.jsonrpc import error_of  # noqa: PLC0415 - only when something failed

        raise error_of(message["error"])


def _typed(value: Any, kind: type[T] | None) -> T | Any:
    if kind is None:
        return value
    import msgspec  # noqa: PLC0415 - only for typed results

    return msgspec.convert(value, kind)
