"""Bytes in, bytes out: JSON-RPC 2.0 over a table of methods, without a transport.

The one place where what a method raises becomes a response: a `DmsError` with its code, hint and whether to try again; anything else is a defect,
logged in full and told as `internal`. Nothing a caller sends raises out of `handle`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import msgspec

from dms.rpc import jsonrpc
from dms.rpc.builtin import Builtin, Pong, Refused
from dms.rpc.jsonrpc import Call, Failure, failure, failure_of
from dms.rpc.registry import Access, Handover, Method, methods_of
from dms.rpc.session import Session
from dms_proto.errors import DmsError, UserError
from dms_proto.units import format_count

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES: Final = 4 * 1024 * 1024
"""A job with 4,096 inputs takes about 1 MiB."""
BUILTIN: Final[dict[str, Method]] = methods_of(Builtin)
Describe = Callable[[], dict[str, Any]]


class Reply(msgspec.Struct, frozen=True):
    """What to send back.

    Attributes:
        data: the response, or None when only notifications came.
        after: to be called once `data` was sent.
        handover: given the connection once `data` was sent; only where the session said that it can be.
    """

    data: bytes | None
    after: tuple[Callable[[], None], ...] = ()
    handover: Handover | None = None


class Dispatcher:
    """Answers requests by calling methods of `api`.

    Args:
        api: implements what `table` names.
        table: methods and feeds by name, from `registry.methods_of`.
        version: of dms, told by rpc.ping.
        describe: gives the OpenRPC document; called only when asked for.
    """

    def __init__(self, api: object, table: Mapping[str, Method], version: str, describe: Describe) -> None:
        self._api = api
        self._table = table
        self._describe = functools.cache(
            describe
        )  # a fifth of a second's work, on the loop that everything else waits for
        self._pong = Pong(version, os.getpid())
        self._running: set[asyncio.Future[Any]] = set()

    async def handle(self, data: bytes, session: Session | None = None, access: Access = Access.FULL) -> Reply:
        """The answer to one message: a request, a notification or a batch.

        Args:
            data: as it came.
            session: of the connection, or None where nothing can be sent unasked.
            access: what the caller may do.
        """
        try:
            value = jsonrpc.decode(data)
        except ValueError as error:
            return Reply(
                _encode(jsonrpc.error_response(None, failure(jsonrpc.PARSE_ERROR, str(error), "bad_argument")))
            )
        builtin = Builtin(self._api, self._table, self._describe, self._pong, session)
        if isinstance(value, list):
            responses = await self._batch(value, builtin, access)
        else:
            responses = await self._one(value, builtin, access)
        return Reply(None if responses is None else _encode(responses), tuple(builtin.after_response), builtin.handover)

    async def _batch(self, values: list[Any], builtin: Builtin, access: Access) -> object | None:
        if not 0 < len(values) <= jsonrpc.MAX_BATCH:
            rule = f"a batch has 1 to {jsonrpc.MAX_BATCH} elements, this has {len(values)}"
            return jsonrpc.error_response(None, failure(jsonrpc.INVALID_REQUEST, rule, "bad_argument"))
        builtin.can_hand_over = False
        responses = [await self._one(value, builtin, access) for value in values]
        answered = [response for response in responses if response is not None]
        return answered or None

    async def _one(self, value: object, builtin: Builtin, access: Access) -> dict[str, object] | None:
        call = jsonrpc.read_call(value)
        if isinstance(call, Failure):
            return jsonrpc.error_response(jsonrpc.id_of(value), call)
        outcome = await self._perform(call, builtin, access)
        if call.notification:
            if isinstance(outcome, Failure):
                logger.info("notification %s failed: %s", call.method, outcome.message)
            return None
        if isinstance(outcome, Failure):
            return jsonrpc.error_response(call.id, outcome)
        return jsonrpc.result_response(call.id, outcome)

    async def _perform(self, call: Call, builtin: Builtin, access: Access) -> msgspec.Raw | Failure:
        entry = self._entry(call.method, access)
        if isinstance(entry, Failure):
            return entry
        try:
            arguments = _arguments(entry, call.params)
        except ValueError as error:
            return failure(jsonrpc.INVALID_PARAMS, str(error), "bad_argument")
        target = builtin if call.method in BUILTIN else self._api
        try:
            if entry.hands_over:
                builtin.need_handover(call)
            answer = getattr(target, entry.attribute)(*arguments)
            # What hands over is nothing without its caller.
            result = await (self._to_its_end(answer) if entry.mutates and not entry.hands_over else answer)
            if isinstance(result, Handover):
                builtin.handover, result = result, result.answer
            return msgspec.Raw(msgspec.json.encode(result))
        except Refused as refused:
            return refused.failure
        except DmsError as error:
            return failure_of(error)
        except Exception as error:  # the RPC edge: a defect of one method is answered, logged and survived
            logger.error("%s failed", call.method, exc_info=error)
            return failure(jsonrpc.INTERNAL_ERROR, f"{call.method} failed; the node's log has the details", "internal")

    def _entry(self, name: str, access: Access) -> Method | Failure:
        entry = BUILTIN.get(name) or self._table.get(name)
        if entry is None or entry.feed:
            return _unknown(name, self._table)
        if access is Access.READ and entry.access is Access.FULL:
            return _needs_more(entry)
        return entry

    async def _to_its_end(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Performs a call that changes something, also when its caller hangs up half-way."""
        task = asyncio.ensure_future(call)
        self._running.add(task)
        task.add_done_callback(self._over)
        return await asyncio.shield(task)

    def _over(self, task: asyncio.Future[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.debug("a change failed: %s", error)  # the caller is told, if there still is one


def too_large(limit: int = MAX_REQUEST_BYTES) -> bytes:
    """The response to a message larger than `limit` bytes."""
    return _encode(
        jsonrpc.error_response(
            None,
            failure(jsonrpc.INVALID_REQUEST, f"a message has at most {format_count(limit, 'byte')}", "bad_argument"),
        )
    )


def refusal(code: str, message: str, *, hint: str = "") -> bytes:
    """A response that refuses the connection itself."""
    return _encode(jsonrpc.error_response(None, failure_of(UserError(code, message, hint=hint))))


def _arguments(entry: Method, params: jsonrpc.Params) -> tuple[msgspec.Struct, ...]:
    """The method's one argument from named or positional parameters.

    Raises:
        ValueError: they do not fit its struct.
    """
    if entry.params is None:
        if params:
            raise ValueError(f"{entry.name} takes no parameters")
        return ()
    if isinstance(params, list):
        fields = msgspec.structs.fields(entry.params)
        if len(params) > len(fields):
            raise ValueError(f"{entry.name} takes at most {len(fields)} parameters")
        params = {field.encode_name: value for field, value in zip(fields, params, strict=False)}
    return (msgspec.convert(params, entry.params),)


def _needs_more(entry: Method) -> Failure:
    return failure_of(
        UserError(
            "reading_token",
            f"{entry.name} needs the full token, and the one shown only looks",
            hint="dms token prints the full one",
        )
    )


def _unknown(name: str, table: Mapping[str, Method]) -> Failure:
    import difflib  # noqa: PLC0415 - only for a mistyped name

    if f"feed:{name}" in table:
        return failure(
            jsonrpc.METHOD_NOT_FOUND,
            f"{name} is a feed",
            "method_not_found",
            hint=f'call subscribe with topic "{name}"',
        )
    names = [entry.name for entry in (*BUILTIN.values(), *table.values()) if not entry.feed]
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]}?" if close else "rpc.discover lists the methods"
    return failure(jsonrpc.METHOD_NOT_FOUND, f"no method {name!r}", "method_not_found", hint=hint)


def _encode(response: object) -> bytes:
    return msgspec.json.encode(response)
