"""JSON-RPC 2.0 as the specification says it, errors with code and hint, and nothing a caller sends raises."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.rpc import jsonrpc
from dms.rpc.dispatcher import Dispatcher
from dms.rpc.jsonrpc import error_of
from dms.rpc.registry import feed, method, methods_of
from dms.rpc.session import Session
from dms_proto.errors import CODES, DmsError, InternalError, MachineError, PeerError, UserError


class AddParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two numbers."""

    left: int
    right: int = 10


class Sum(msgspec.Struct, frozen=True):
    """Their sum."""

    value: int


class Item(msgspec.Struct, frozen=True):
    """Of a feed."""

    id: int


class CountParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From where."""

    since: int = 0
    fail: bool = False


class Sample(Protocol):
    """An interface."""

    @method("sample.add")
    async def add(self, params: AddParams) -> Sum:
        """Adds."""
        ...

    @method("sample.nothing")
    async def nothing(self) -> Sum:
        """Takes nothing."""
        ...

    @method("sample.fail")
    async def fail(self) -> Sum:
        """Fails as told."""
        ...

    @method("sample.change", mutates=True)
    async def change(self) -> Sum:
        """Changes something, slowly."""
        ...

    @feed("count")
    def count(self, params: CountParams) -> AsyncIterator[Item]:
        """Counts to three."""
        ...


class SampleApi:
    """Implements it."""

    def __init__(self) -> None:
        self.error: Exception = UserError("not_found", "no job r-1", hint="dms job list")
        self.calls: list[str] = []
        self.gate = asyncio.Event()
        self.done = asyncio.Event()
        self.changed = 0

    async def add(self, params: AddParams) -> Sum:
        self.calls.append("add")
        return Sum(params.left + params.right)

    async def nothing(self) -> Sum:
        return Sum(0)

    async def fail(self) -> Sum:
        raise self.error

    async def change(self) -> Sum:
        await self.gate.wait()
        self.changed += 1
        self.done.set()
        return Sum(self.changed)

    async def count(self, params: CountParams) -> AsyncIterator[Item]:
        for number in (1, 2, 2, 3):
            yield Item(number)
        if params.fail:
            raise self.error


TABLE = methods_of(Sample)


def _dispatcher(api: SampleApi) -> Dispatcher:
    return Dispatcher(api, TABLE, "1.2.3", lambda: {"openrpc": "x"})


async def _ask(request: object, api: SampleApi | None = None) -> Any:
    data = request if isinstance(request, bytes) else json.dumps(request).encode()
    reply = await _dispatcher(api or SampleApi()).handle(data)
    return None if reply.data is None else json.loads(reply.data)


def _call(name: str, params: object = None, id_: object = 1) -> dict[str, object]:
    request: dict[str, object] = {"jsonrpc": "2.0", "method": name, "id": id_}
    return request if params is None else {**request, "params": params}


# --------------------------------------------------------------------------------------------- the specification, case by case


@pytest.mark.parametrize("params", [{"left": 1, "right": 2}, [1, 2]])
async def test_parameters_by_name_and_by_position(params: object) -> None:
    assert await _ask(_call("sample.add", params)) == {"jsonrpc": "2.0", "id": 1, "result": {"value": 3}}


async def test_parameters_with_a_default_may_be_left_out() -> None:
    assert (await _ask(_call("sample.add", [1])))["result"] == {"value": 11}


@pytest.mark.parametrize("params", [None, {}, []])
async def test_a_method_without_parameters_takes_none(params: object) -> None:
    assert (await _ask(_call("sample.nothing", params)))["result"] == {"value": 0}


@pytest.mark.parametrize("id_", ["a", "", 7, 0, -3, 1.5, None])
async def test_the_id_comes_back_as_it_was(id_: object) -> None:
    assert (await _ask(_call("sample.nothing", id_=id_)))["id"] == id_


async def test_a_notification_is_performed_and_not_answered() -> None:
    api = SampleApi()
    assert await _ask({"jsonrpc": "2.0", "method": "sample.add", "params": [1]}, api) is None
    assert api.calls == ["add"]


@pytest.mark.parametrize(
    "request_", [{"jsonrpc": "2.0", "method": "no.such"}, {"jsonrpc": "2.0", "method": "sample.fail"}]
)
async def test_a_failed_notification_is_not_answered_either(request_: object) -> None:
    assert await _ask(request_) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]',
        b"\xff",
        b"nan",
        b"[1,",
        b"{}x",
        b"[" * 100_000,
    ],
)
async def test_what_is_not_json_is_a_parse_error(data: bytes) -> None:
    response = await _ask(data)
    assert response["id"] is None
    assert response["error"]["code"] == jsonrpc.PARSE_ERROR


@pytest.mark.parametrize(
    ("request_", "id_"),
    [
        (1, None),
        ("x", None),
        (None, None),
        ({}, None),
        ({"jsonrpc": "2.0", "method": 1, "params": "bar"}, None),
        ({"jsonrpc": "1.0", "method": "sample.add", "id": 3}, 3),
        ({"method": "sample.add", "id": 3}, 3),
        ({"jsonrpc": "2.0", "id": 3}, 3),
        ({"jsonrpc": "2.0", "method": "", "id": 3}, 3),
        ({"jsonrpc": "2.0", "method": "x" * 1000, "id": 3}, 3),
        ({"jsonrpc": "2.0", "method": "sample.add", "id": [3]}, None),
        ({"jsonrpc": "2.0", "method": "sample.add", "id": True}, None),
        ({"jsonrpc": "2.0", "method": "sample.add", "id": 3, "params": "x"}, 3),
        ({"jsonrpc": "2.0", "method": "sample.add", "id": 3, "params": None}, 3),
    ],
)
async def test_what_is_no_request_is_an_invalid_request(request_: object, id_: object) -> None:
    response = await _ask(request_)
    assert response["error"]["code"] == jsonrpc.INVALID_REQUEST
    assert response["id"] == id_


@pytest.mark.parametrize("name", ["no.such", "count", "__init__", "api", "sample"])
async def test_what_is_not_in_the_table_cannot_be_called(name: str) -> None:
    error = (await _ask(_call(name)))["error"]
    assert error["code"] == jsonrpc.METHOD_NOT_FOUND
    assert error["data"]["code"] == "method_not_found"


async def test_a_mistyped_method_names_the_nearest() -> None:
    assert (await _ask(_call("sample.ad")))["error"]["data"]["hint"] == "did you mean sample.add?"
    assert 'topic "count"' in (await _ask(_call("count")))["error"]["data"]["hint"]


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({}, "left"),
        ({"left": "1"}, "$.left"),
        ({"left": 1, "extra": 2}, "extra"),
        ([], "left"),
        ([1, 2, 3], "at most 2"),
    ],
)
async def test_parameters_that_do_not_fit_are_invalid_params(params: object, says: str) -> None:
    error = (await _ask(_call("sample.add", params)))["error"]
    assert error["code"] == jsonrpc.INVALID_PARAMS
    assert says in error["message"]


async def test_a_method_without_parameters_refuses_some() -> None:
    assert (await _ask(_call("sample.nothing", [1])))["error"]["code"] == jsonrpc.INVALID_PARAMS


# ------------------------------------------------------------------------------------------------------------------ batches


async def test_a_batch_is_answered_element_by_element() -> None:
    responses = await _ask(
        [
            _call("sample.add", [1, 2], "a"),
            {"jsonrpc": "2.0", "method": "sample.add", "params": [1]},
            {"foo": "boo"},
            _call("no.such", id_="b"),
            1,
        ]
    )
    assert [(response["id"], response.get("error", {}).get("code")) for response in responses] == [
        ("a", None),
        (None, jsonrpc.INVALID_REQUEST),
        ("b", jsonrpc.METHOD_NOT_FOUND),
        (None, jsonrpc.INVALID_REQUEST),
    ]


async def test_an_empty_batch_is_one_invalid_request() -> None:
    response = await _ask([])
    assert isinstance(response, dict)
    assert response["error"]["code"] == jsonrpc.INVALID_REQUEST


async def test_a_batch_of_notifications_is_not_answered() -> None:
    assert await _ask([{"jsonrpc": "2.0", "method": "sample.add", "params": [1]}] * 2) is None


async def test_a_batch_larger_than_the_limit_is_refused_whole() -> None:
    api = SampleApi()
    response = await _ask([_call("sample.add", [1])] * (jsonrpc.MAX_BATCH + 1), api)
    assert response["error"]["code"] == jsonrpc.INVALID_REQUEST
    assert api.calls == []


# ------------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        (UserError("not_found", "no job r-1", hint="dms job list"), "user", False),
        (PeerError("peer_timeout", "silent"), "peer", True),
        (MachineError("disk_full", "no room"), "machine", False),
        (InternalError("mailbox_full", "full", retryable=True), "internal", True),
    ],
)
async def test_an_error_of_ours_carries_code_kind_hint_and_whether_to_try_again(
    error: DmsError, kind: str, retryable: bool
) -> None:
    api = SampleApi()
    api.error = error
    told = (await _ask(_call("sample.fail"), api))["error"]
    assert told["code"] == jsonrpc.APPLICATION_ERROR
    assert told["message"] == error.message
    assert told["data"] == {"code": error.code, "kind": kind, "hint": error.hint, "retryable": retryable}
    again = error_of(told)
    assert type(again) is type(error)
    assert (again.code, again.message, again.hint, again.retryable) == (
        error.code,
        error.message,
        error.hint,
        error.retryable,
    )


@pytest.mark.parametrize(
    "defect", [RuntimeError("secret path /home/x"), KeyError("k"), AssertionError(), RecursionError()]
)
async def test_a_defect_is_logged_and_told_without_its_details(
    defect: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    api = SampleApi()
    api.error = defect
    with caplog.at_level(logging.ERROR):
        told = (await _ask(_call("sample.fail"), api))["error"]
    assert told["code"] == jsonrpc.INTERNAL_ERROR
    assert told["data"]["code"] == "internal"
    assert "secret" not in json.dumps(told)
    assert caplog.records[0].exc_info is not None


async def test_a_result_that_is_no_json_is_a_defect_not_a_crash() -> None:
    class Odd(SampleApi):
        async def nothing(self) -> Sum:
            return object()  # type: ignore[return-value] # the defect

    assert (await _ask(_call("sample.nothing"), Odd()))["error"]["code"] == jsonrpc.INTERNAL_ERROR


def test_a_code_of_a_newer_node_is_shown_as_internal() -> None:
    error = error_of({"code": -32000, "message": "odd", "data": {"code": "quantum_decoherence", "kind": "peer"}})
    assert (type(error), error.code, error.message) == (PeerError, "internal", "odd [quantum_decoherence]")


@pytest.mark.parametrize(
    "told", [{}, {"code": -32000}, {"message": "x", "data": "y"}, {"data": {"code": 7, "kind": None}}]
)
def test_an_error_of_any_shape_can_be_read(told: dict[str, Any]) -> None:
    assert error_of(told).code in CODES


async def test_a_change_goes_through_when_its_caller_hangs_up() -> None:
    api = SampleApi()
    dispatcher = _dispatcher(api)
    asking = asyncio.create_task(dispatcher.handle(json.dumps(_call("sample.change")).encode()))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    api.gate.set()
    async with asyncio.timeout(5):
        await api.done.wait()
    assert api.changed == 1


async def test_a_change_that_fails_after_its_caller_hung_up_is_no_defect() -> None:
    class Failing(SampleApi):
        async def change(self) -> Sum:
            await self.gate.wait()
            self.done.set()
            raise UserError("not_found", "gone meanwhile")

    api, unheard = Failing(), list[dict[str, Any]]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unheard.append(context))
    dispatcher = _dispatcher(api)
    asking = asyncio.create_task(dispatcher.handle(json.dumps(_call("sample.change")).encode()))
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking])
    api.gate.set()
    await asyncio.wait(list(dispatcher._running), timeout=5)
    del asking
    gc.collect()
    assert unheard == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["jsonrpc", "method", "params", "id", "x"]), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(
    JSON
    | st.fixed_dictionaries(
        {
            "jsonrpc": st.just("2.0"),
            "method": st.sampled_from(["sample.add", "subscribe", "rpc.ping"]),
            "params": JSON,
            "id": JSON,
        }
    )
)
async def test_every_json_value_is_answered_by_the_rules(value: object) -> None:
    response = await _ask(value)
    for one in response if isinstance(response, list) else [response] if response is not None else []:
        assert one["jsonrpc"] == "2.0"
        assert ("result" in one) != ("error" in one)
        assert "id" in one


@given(st.binary(max_size=300))
async def test_no_bytes_raise(data: bytes) -> None:
    await _dispatcher(SampleApi()).handle(data)


# ---------------------------------------------------------------------------------------------------------------- built in


async def test_ping_tells_the_version() -> None:
    result = (await _ask(_call("rpc.ping")))["result"]
    assert result["version"] == "1.2.3"
    assert result["pid"] > 0


async def test_discover_returns_the_document_that_is_made_once() -> None:
    made: list[dict[str, Any]] = []
    dispatcher = Dispatcher(SampleApi(), TABLE, "1", lambda: made.append({"openrpc": "x"}) or made[-1])
    for _ in range(2):
        reply = await dispatcher.handle(json.dumps(_call("rpc.discover")).encode())
        assert reply.data is not None
        assert json.loads(reply.data)["result"] == {"openrpc": "x"}
    assert len(made) == 1


async def test_subscribing_needs_a_connection_that_lasts() -> None:
    for name, params in (("subscribe", {"topic": "count"}), ("unsubscribe", {"subscription": "s1"})):
        error = (await _ask(_call(name, params)))["error"]
        assert error["data"]["code"] == "bad_argument"
        assert "WebSocket" in error["data"]["hint"]


class Wire:
    """A connection that keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.changed = asyncio.Event()
        self.broken = False

    async def send(self, data: bytes) -> None:
        if self.broken:
            raise ConnectionResetError
        self.sent.append(json.loads(data))
        self.changed.set()

    async def wait_sent(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.sent) < count:
                self.changed.clear()
                await self.changed.wait()


async def _subscribe(api: SampleApi, wire: Wire, params: dict[str, Any], topic: str = "count") -> tuple[Session, Any]:
    session = Session(wire.send)
    reply = await _dispatcher(api).handle(
        json.dumps(_call("subscribe", {"topic": topic, "params": params})).encode(), session
    )
    assert reply.data is not None
    await asyncio.sleep(0)
    assert wire.sent == [], "nothing is sent before the answer that names the subscription"
    for start in reply.after:
        start()
    return session, json.loads(reply.data)


async def test_a_subscription_delivers_each_id_once_in_order_and_then_ends() -> None:
    wire = Wire()
    session, answer = await _subscribe(SampleApi(), wire, {})
    await wire.wait_sent(4)
    assert answer["result"] == {"subscription": "s1"}
    assert [message["params"].get("id") for message in wire.sent] == [1, 2, 3, None]
    assert wire.sent[0] == {
        "jsonrpc": "2.0",
        "method": "update",
        "params": {"subscription": "s1", "id": 1, "item": {"id": 1}},
    }
    assert wire.sent[3] == {"jsonrpc": "2.0", "method": "end", "params": {"subscription": "s1", "error": None}}
    await session.close()


async def test_a_subscription_goes_on_after_the_last_id_seen() -> None:
    wire = Wire()
    session, _ = await _subscribe(SampleApi(), wire, {"since": 2})
    await wire.wait_sent(2)
    assert [message["params"].get("id") for message in wire.sent] == [3, None]
    await session.close()


@pytest.mark.parametrize(
    ("error", "code"), [(UserError("not_found", "gone"), "not_found"), (RuntimeError("defect"), "internal")]
)
async def test_a_feed_that_fails_ends_with_the_error_and_nothing_else_ends(error: Exception, code: str) -> None:
    api, wire = SampleApi(), Wire()
    api.error = error
    session, _ = await _subscribe(api, wire, {"fail": True})
    await wire.wait_sent(4)
    assert wire.sent[-1]["params"]["error"]["data"]["code"] == code
    await session.close()


@pytest.mark.parametrize(
    ("topic", "params", "code"),
    [("none", {}, jsonrpc.APPLICATION_ERROR), ("count", {"sicne": 1}, jsonrpc.INVALID_PARAMS)],
)
async def test_a_subscription_to_nothing_is_refused(topic: str, params: dict[str, Any], code: int) -> None:
    wire = Wire()
    session, answer = await _subscribe(SampleApi(), wire, params, topic)
    assert answer["error"]["code"] == code
    await session.close()


async def test_unsubscribing_ends_it_once() -> None:
    wire = Wire()
    session = Session(wire.send)
    dispatcher = _dispatcher(SampleApi())
    await dispatcher.handle(json.dumps(_call("subscribe", {"topic": "count"})).encode(), session)
    for expected in (True, False):
        reply = await dispatcher.handle(json.dumps(_call("unsubscribe", {"subscription": "s1"})).encode(), session)
        assert reply.data is not None
        assert json.loads(reply.data)["result"] == {"ended": expected}
    assert wire.sent == []


async def test_a_connection_has_a_bounded_number_of_subscriptions() -> None:
    session = Session(Wire().send)
    dispatcher = _dispatcher(SampleApi())
    codes = []
    for _ in range(33):
        reply = await dispatcher.handle(json.dumps(_call("subscribe", {"topic": "count"})).encode(), session)
        assert reply.data is not None
        codes.append(json.loads(reply.data).get("error", {}).get("data", {}).get("code"))
    assert codes == [None] * 32 + ["bad_argument"]
    await session.close()


async def test_a_connection_that_breaks_ends_its_subscriptions_quietly(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    wire.broken = True
    session, _ = await _subscribe(SampleApi(), wire, {})
    await asyncio.wait(session._tasks.values(), timeout=5)
    await session.close()
    assert caplog.records == []
