"""A method is declared once; a declaration that says too little is found at import."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from dms.rpc.api import METHODS, NodeApi
from dms.rpc.dispatcher import BUILTIN
from dms.rpc.openrpc import attributes_of, document, summary_of, types_by_name
from dms.rpc.registry import calls, feed, feeds, method, methods_of
from dms.testing.node_api import MemoryNode

NAMES = [
    "node.status", "node.identity", "node.capability", "node.benchmark_capability", "node.set_registered_capability",
    "node.get_registered_capability", "node.set_available_capability", "node.get_available_capability", "node.lock_capability",
    "node.get_locked_capabilities", "node.set_preferences", "node.get_preferences", "node.get_registered_bids", "node.get_allocation",
    "node.check_allocation_status", "node.route_to_allocation", "node.start_allocation", "node.pause", "node.resume", "node.stop",
    "job.submit", "job.list", "job.show", "job.explain", "job.decision", "job.cancel", "job.logs", "job.results", "job.wait",
    "job.exec", "alloc.exec",
    "market.ask", "bids.list", "requests.list", "price.suggest", "alloc.list", "alloc.show", "alloc.logs", "alloc.read", "alloc.cancel",
    "alloc.resize",
    "audit.export",
    "peers.list", "peers.show", "peers.join", "peers.move", "peers.invite", "peers.ping", "peers.ban",
    "account.show", "account.statement", "account.limit", "account.deposit", "account.settle",
    "account.disputes", "account.forgive", "account.accept", "account.verify", "account.tabs",
    "grants.anchors", "grants.anchor", "grants.create", "grants.delegate", "grants.inspect", "grants.keep", "grants.forget",
    "grants.revoke", "grants.list",
    "events.query", "events.verify", "events.trace", "doctor.run", "tunnel.open", "tunnel.wait", "data.add", "data.list", "data.show", "data.remove",
    "service.install", "service.start", "service.stop", "service.remove", "service.list", "service.call", "service.price", "service.explain",
    "pool.list", "pool.show",
]  # fmt: skip


def test_the_interface_has_these_methods_and_no_others() -> None:
    assert sorted(entry.name for entry in calls(METHODS.values())) == sorted(NAMES)
    assert sorted(entry.name for entry in feeds(METHODS.values())) == ["events", "job"]


def test_what_changes_something_says_so() -> None:
    assert {entry.name for entry in METHODS.values() if entry.mutates} == {
        "node.benchmark_capability", "node.set_registered_capability", "node.set_available_capability", "node.lock_capability",
        "node.set_preferences", "node.start_allocation", "node.pause", "node.resume", "node.stop",
        "job.submit", "job.cancel", "job.exec", "alloc.exec",
        "alloc.read", "alloc.resize", "alloc.cancel", "peers.join", "peers.move", "peers.invite", "peers.ban", "market.ask", "peers.ping",
        "grants.anchor", "grants.create", "grants.delegate", "grants.keep", "grants.forget", "grants.revoke",
        "account.limit", "account.deposit", "account.settle", "account.forgive", "account.accept", "tunnel.open", "data.add", "data.remove",
        "service.install", "service.start", "service.stop", "service.remove", "service.call", "service.price",
    }  # fmt: skip


def test_every_method_is_named_after_its_attribute() -> None:
    for entry in calls(METHODS.values()):
        assert entry.attribute == entry.name.replace(".", "_")


def test_the_in_memory_node_has_every_method_with_the_same_parameters() -> None:
    for entry in METHODS.values():
        ours, theirs = getattr(MemoryNode, entry.attribute), getattr(NodeApi, entry.attribute)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), entry.name


def test_no_name_is_taken_twice() -> None:
    assert not set(BUILTIN) & set(METHODS)


class TwoParams:
    @method("a")
    async def a(self, x: int, y: int) -> int:
        """Adds."""
        return x + y


class NoDoc:
    @method("a")
    async def a(self) -> int:
        return 1


class NoResult:
    @method("a")
    async def a(self):  # type: ignore[no-untyped-def] # the point of the test
        """Does."""


class NoIterator:
    @feed("a")
    def a(self) -> list[int]:
        """Lists."""
        return []


class Twice:
    @method("a")
    async def a(self) -> int:
        """One."""
        return 1

    @method("a")
    async def b(self) -> int:
        """Two."""
        return 2


@pytest.mark.parametrize("interface", [TwoParams, NoDoc, NoResult, NoIterator, Twice])
def test_an_incomplete_declaration_is_refused(interface: type) -> None:
    with pytest.raises(TypeError):
        methods_of(interface)


def test_a_feed_and_a_method_may_share_a_name() -> None:
    class Both:
        @method("a")
        async def a(self) -> int:
            """One."""
            return 1

        @feed("a")
        def watch_a(self) -> AsyncIterator[int]:
            """Many."""
            raise NotImplementedError

    assert sorted(methods_of(Both)) == ["a", "feed:a"]


# ------------------------------------------------------------------------------------------------------------------ OpenRPC


def _fields(kind: type) -> set[str]:
    return {field.name for field in msgspec.structs.fields(kind)}


def _document() -> dict[str, Any]:
    return document(METHODS, "0.1.0")


def test_the_document_describes_every_method_parameter_and_result() -> None:
    described = _document()
    assert {item["name"] for item in described["methods"]} == {*NAMES, *BUILTIN}
    for item in (*described["methods"], *described["x-feeds"]):
        assert len(item["summary"]) > 8, item["name"]
        assert item["result"]["schema"], item["name"]
        for parameter in item["params"]:
            assert parameter["description"], f"{item['name']}: {parameter['name']} is not described"


def test_every_field_of_every_type_of_the_interface_is_described() -> None:
    kinds = types_by_name(
        [entry.result for entry in (*METHODS.values(), *BUILTIN.values())]
        + [entry.params for entry in (*METHODS.values(), *BUILTIN.values()) if entry.params]
    )
    ours = [kind for kind in kinds.values() if kind.__module__.startswith("dms.")]
    assert len(ours) > 60
    missing = [
        f"{kind.__name__}.{field}" for kind in ours for field in _fields(kind) if field not in attributes_of(kind)
    ]
    assert missing == []
    assert [kind.__name__ for kind in ours if not summary_of(kind)] == []


def test_descriptions_name_no_field_that_is_not_there() -> None:
    kinds = types_by_name(
        [entry.result for entry in METHODS.values()] + [entry.params for entry in METHODS.values() if entry.params]
    )
    for kind in kinds.values():
        if kind.__module__.startswith("dms."):
            assert set(attributes_of(kind)) <= _fields(kind), kind.__name__


def test_the_document_says_which_token_a_method_needs() -> None:
    needed = {item["name"]: item["x-token"] for item in _document()["methods"]}
    assert (needed["node.status"], needed["subscribe"], needed["job.submit"]) == ("read", "read", "full")
    assert {item["x-token"] for item in _document()["x-feeds"]} == {"read"}


def test_every_reference_in_the_document_leads_somewhere() -> None:
    described = _document()

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [str(value["$ref"])] if "$ref" in value else []
            return own + [found for item in value.values() for found in references(item)]
        return [found for item in value for found in references(item)] if isinstance(value, list) else []

    for reference in references(described):
        assert reference.removeprefix("#/components/schemas/") in described["components"]["schemas"]
