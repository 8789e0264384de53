"""The OpenRPC document of this interface (https://spec.open-rpc.org), generated from the declarations. Also feeds the reference page."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from dms.rpc.dispatcher import BUILTIN
from dms.rpc.registry import Method
from dms_proto.errors import CODES

OPENRPC_VERSION: Final = "1.3.2"
_REFERENCE: Final = "#/components/schemas/{name}"
_ENTRY: Final = re.compile(r"^    (\w+): (.*(?:\n(?:        .*|$))*)", re.MULTILINE)


def document(table: Mapping[str, Method], version: str) -> dict[str, Any]:
    """The document for `table` and the built-in methods."""
    entries = sorted((*BUILTIN.values(), *table.values()), key=lambda entry: (entry.feed, entry.name))
    types = [entry.result for entry in entries] + [entry.params for entry in entries if entry.params is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    results = dict(zip(((entry.name, entry.feed) for entry in entries), schemas, strict=False))
    kinds = types_by_name(types)
    described = {name: _described(schema, kinds.get(name)) for name, schema in components.items()}
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {"title": "dms", "version": version, "description": "The local interface of a dms node."},
        "methods": [_method(entry, results[entry.name, False], described) for entry in entries if not entry.feed],
        "x-feeds": [_method(entry, results[entry.name, True], described) for entry in entries if entry.feed],
        "components": {
            "schemas": described,
            "errors": {
                code: {"code": -32000, "message": meaning, "data": {"code": code}} for code, meaning in CODES.items()
            },
        },
    }


def _method(entry: Method, result: dict[str, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": entry.name,
        "summary": entry.summary,
        "description": entry.doc,
        "paramStructure": "by-name",
        "params": _params(entry, components),
        "result": {"name": "item" if entry.feed else "result", "schema": result},
        "x-mutates": entry.mutates,
        "x-token": entry.access,
    }


def _params(entry: Method, components: Mapping[str, Any]) -> list[dict[str, Any]]:
    if entry.params is None:
        return []
    schema = components[entry.params.__name__]
    required = set(schema.get("required", ()))
    return [
        {"name": name, "required": name in required, "description": value.get("description", ""), "schema": value}
        for name, value in schema["properties"].items()
    ]


def _described(schema: dict[str, Any], kind: type | None) -> dict[str, Any]:
    """The schema with each field's description, taken from the type's docstring, beside it."""
    if kind is None or "properties" not in schema:
        return schema
    about = attributes_of(kind)
    properties = {
        name: {**value, "description": about[name]} if name in about else value
        for name, value in schema["properties"].items()
    }
    return {**schema, "description": summary_of(kind), "properties": properties}


def types_by_name(roots: Iterable[Any]) -> dict[str, type]:
    """Every struct reachable from `roots`, by its name in the schemas."""
    found: dict[str, type] = {}
    pending = [msgspec.inspect.type_info(root) for root in roots]
    while pending:
        info = pending.pop()
        cls = getattr(info, "cls", None)
        if isinstance(info, msgspec.inspect.StructType):
            if cls is None or cls.__name__ in found:
                continue
            found[cls.__name__] = cls
        pending.extend(_inner(info))
    return found


def _inner(info: msgspec.inspect.Type) -> list[msgspec.inspect.Type]:
    match info:
        case msgspec.inspect.StructType(fields=fields):
            return [field.type for field in fields]
        case msgspec.inspect.UnionType(types=types):
            return list(types)
        case msgspec.inspect.TupleType(item_types=items):
            return list(items)
        case msgspec.inspect.DictType(key_type=key, value_type=value):
            return [key, value]
        case msgspec.inspect.Metadata(type=inner):
            return [inner]
        case _:
            item = getattr(info, "item_type", None)
            return [item] if item is not None else []


def summary_of(kind: type) -> str:
    """The first paragraph of a type's docstring."""
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


def attributes_of(kind: type) -> dict[str, str]:
    """Field to description, from the "Attributes:" of the type and of those it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(kind.__mro__):
        _, _, section = (inspect.cleandoc(cls.__doc__ or "")).partition("Attributes:\n")
        for name, text in _ENTRY.findall(section):
            found[name] = " ".join(text.split())
    return found
