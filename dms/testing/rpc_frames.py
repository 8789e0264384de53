"""Frames of JSON-RPC for fuzzers: valid calls made from the interface's own schemas, and all the ways of spoiling them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Any, Final

from dms.rpc.jsonrpc import MAX_BATCH
from dms.testing.mutations import extend, flip, insert, mutated, nested, replace_span, truncate

WEIRD: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**53 + 1, 2**64, -(2**63) - 1, 10**30, 0.5, 1e308, -0.0,
    "", "x", "\0", "é" * 40, "../..", "r-" + "a" * 26, "x" * 5_000, "\u202e\x1b[2J", "not base64",
    [], {}, [[]], [{}] * 50, {"": ""}, list(range(300)), {str(n): n for n in range(300)},
)  # fmt: skip
GARBAGE: Final = (
    b"", b"\n", b"null", b"nul", b"0", b'""', b"[]", b"{}", b"[[[]]]", b"[" * 50_000, b'{"a":' * 5_000, b"[" * 900 + b"]" * 900,
    b"9" * 20_000, b"1e999", b"-", b'"\\ud800"', b'"\\u0000"', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b"\xc0\x80", b"{}{}", b"NaN",
    b'{"jsonrpc":"2.0","method":"rpc.ping","id":' + b"9" * 4_000 + b"}", b'{"jsonrpc":"2.0","id":1,"id":2,"method":"rpc.ping"}',
)  # fmt: skip
IDS: Final = (0, 1, -1, 2**53, 10**40, 0.5, "", "a", "é", "x" * 300, None)
WRONG_IDS: Final[tuple[Any, ...]] = (True, [], {}, [1], {"id": 1})
MUTATIONS: Final[tuple[Callable[[Random, bytes], bytes], ...]] = (flip, flip, replace_span, insert, truncate, extend)
MAX_DEPTH: Final = 6
"""Of what is made from a schema; types that hold themselves end there."""


class Frames:
    """Makes frames, one after the other.

    Args:
        random: the same gives the same frames.
        described: the OpenRPC document of the interface.
        known: for fields by name, values that lead somewhere, such as ids of jobs that there are.
        without: methods that are not called.

    Attributes:
        random: where everything is drawn from.
    """

    def __init__(
        self,
        random: Random,
        described: Mapping[str, Any],
        known: Mapping[str, Sequence[Any]],
        without: Collection[str] = (),
    ) -> None:
        self.random = random
        self._schemas = described["components"]["schemas"]
        self._methods = [entry for entry in described["methods"] if entry["name"] not in without]
        self._feeds = {entry["name"]: entry["params"] for entry in described["x-feeds"]}
        self._known = known

    def next(self) -> bytes:
        """A frame: one time in four valid, else spoilt as a tree, as bytes, in a batch, or never meant."""
        choice = self.random.random()
        if choice < 0.25:
            return _written(self.random, self.call())
        if choice < 0.6:
            return _written(self.random, self._spoilt())
        if choice < 0.85:
            return self.random.choice(MUTATIONS)(self.random, _written(self.random, self.call()))
        if choice < 0.93:
            return _written(self.random, self._batch())
        return self._garbage()

    def call(self) -> dict[str, Any]:
        """A valid call of any method."""
        entry = self.random.choice(self._methods)
        call = {"jsonrpc": "2.0", "method": entry["name"]}
        if self.random.random() < 0.93:
            call["id"] = self.random.choice(IDS)
        if not entry["params"]:
            return call
        named = self._feed() if entry["name"] == "subscribe" else self._fields(entry["params"])
        return {**call, "params": list(named.values()) if self.random.random() < 0.1 else named}

    def _feed(self) -> dict[str, Any]:
        topic = self.random.choice(list(self._feeds))
        return {"topic": topic, "params": self._fields(self._feeds[topic])}

    def _spoilt(self) -> Any:
        call = self.call()
        choice = self.random.random()
        if choice < 0.1:
            return {**call, "id": self.random.choice(WRONG_IDS)}
        if choice < 0.7 and "params" in call:
            return {**call, "params": mutated(self.random, call["params"], weird)}
        return mutated(self.random, call, weird)

    def _batch(self) -> list[Any]:
        count = self.random.choice((0, 1, 2, 5, MAX_BATCH + 1)) if self.random.random() < 0.3 else 3
        return [self.call() if self.random.random() < 0.7 else self._spoilt() for _ in range(count)]

    def _garbage(self) -> bytes:
        if self.random.random() < 0.5:
            return self.random.randbytes(self.random.randrange(2_000))
        return self.random.choice(GARBAGE)

    # ------------------------------------------------------------------------------------------------- values for a schema

    def _fields(self, params: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Parameters: those that are required, and some of the others."""
        return {
            each["name"]: self._field(each["name"], each["schema"], 0)
            for each in params
            if each["required"] or self.random.random() < 0.4
        }

    def _field(self, name: str, schema: Mapping[str, Any], depth: int) -> Any:
        if name in self._known and self.random.random() < 0.8:
            return self.random.choice(self._known[name])
        return self._value(schema, depth)

    def _value(self, schema: Mapping[str, Any], depth: int) -> Any:
        random = self.random
        if "$ref" in schema:
            return self._value(self._schemas[schema["$ref"].rpartition("/")[2]], depth + 1)
        if several := schema.get("anyOf") or schema.get("oneOf"):
            return self._value(random.choice(several), depth + 1)
        match schema.get("type"):
            case "object":
                return self._object(schema, depth)
            case "array":
                items = schema.get("prefixItems") or [schema.get("items") or {}] * random.choice((0, 1, 2))
                return [self._value(item or {}, depth + 1) for item in items] if depth < MAX_DEPTH else []
        return random.choice(_plain(random, schema))

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        required = schema.get("required", ())
        return {
            name: self._field(name, each, depth + 1)
            for name, each in schema.get("properties", {}).items()
            if name in required or (depth < MAX_DEPTH and self.random.random() < 0.4)
        }


def weird(random: Random) -> Any:
    """A value that no field expects, sometimes deep in lists."""
    value = random.choice(WEIRD)
    return nested(random, value, (10, 300, 700)) if random.random() < 0.02 else value


def _plain(random: Random, schema: Mapping[str, Any]) -> Sequence[Any]:
    """Values that a schema without parts lets through, mostly."""
    match schema.get("type"):
        case "integer" | "number":
            return (schema.get("minimum", 0), schema.get("maximum", 10), 1, 100, random.randrange(2**40))
        case "string":
            return ("", "a", "stdout", "AAAA", "1h", "x" * schema.get("minLength", 3))
        case "boolean":
            return (True, False)
        case _:
            chosen: Sequence[Any] = schema.get("enum", (None,))
            return chosen


def _written(random: Random, tree: Any) -> bytes:
    return json.dumps(tree, ensure_ascii=random.random() < 0.5).encode()
