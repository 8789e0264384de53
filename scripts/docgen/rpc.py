"""The reference of the local JSON-RPC, read from its OpenRPC document."""

from __future__ import annotations

from typing import Any

from dms import __version__
from dms.rpc.api import METHODS
from dms.rpc.openrpc import document

from .text import markdown, page, table

ABOUT = """
JSON-RPC 2.0 on the Unix socket `HOME/node.sock`, one JSON value per line; with `rpc.http = true` also `POST /rpc` and a WebSocket at `/ws` (see
[configuration](configuration.md#rpc)). `rpc.discover` returns the OpenRPC document this page is made from.

Parameters are passed by name. Times are Unix milliseconds, spans milliseconds, prices micro-credits, sizes bytes, CPU millicores; bytes are base64.
An id may be a unique beginning of the id; a peer may also be named by its name or the end of its PeerID.

An error has the JSON-RPC code of the specification (-32700 … -32600) or -32000, and in `data` the stable `code` ([error codes](errors.md)), the
`hint` and `retryable`.

On HTTP a caller shows a bearer token: the **full** one opens everything, the **read** one only what looks; `dms token` prints them. On the socket its
owner may do everything.

A **feed** is followed with `subscribe {"topic": NAME, "params": {…}}`: notifications `update` with growing ids, then `end`. After a broken
connection, `since` in the parameters goes on after an id.
"""


def reference() -> str:
    """The page."""
    found = document(METHODS, __version__)
    methods = [_method(entry) for entry in found["methods"]]
    feeds = [_method(entry, feed=True) for entry in found["x-feeds"]]
    schemas = found["components"]["schemas"]
    types = [_type(name, schema) for name, schema in sorted(schemas.items())]
    listed = table(
        ("method", "token", "what it does"),
        [
            (f"[`{entry['name']}`](#{_anchor(entry['name'])})", entry["x-token"], _first(entry["summary"]))
            for entry in found["methods"]
        ]
        + [
            (f"[feed `{entry['name']}`](#feed-{entry['name']})", entry["x-token"], _first(entry["summary"]))
            for entry in found["x-feeds"]
        ],
    )
    return page(
        "JSON-RPC", ABOUT, "## All methods", listed, "## Methods", *methods, "## Feeds", *feeds, "## Types", *types
    )


def undocumented() -> list[str]:
    """Parameters without a description. Methods without a docstring cannot be declared."""
    found = document(METHODS, __version__)
    return [
        f"{entry['name']}: parameter {parameter['name']} has no description"
        for entry in (*found["methods"], *found["x-feeds"])
        for parameter in entry["params"]
        if not parameter["description"]
    ]


def words(schema: dict[str, Any]) -> str:  # noqa: C901, PLR0911 - one line per form of schema
    """A JSON Schema as a person reads it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(words(each) for each in schema[several])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    match schema.get("type"):
        case "array" if "prefixItems" in schema:
            return "[" + ", ".join(words(each) for each in schema["prefixItems"]) + "]"
        case "array":
            return f"list of {words(schema.get('items') or {})}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"map to {words(schema['additionalProperties'])}"
        case "object":
            return "object"
        case "string" if schema.get("contentEncoding") == "base64":
            return "base64"
        case str() as plain:
            return plain
        case _:
            return "anything"


def _method(entry: dict[str, Any], *, feed: bool = False) -> str:
    title = f"### feed {entry['name']}" if feed else f"### {entry['name']}"
    parts = [title, markdown(entry["description"])]
    if entry["params"]:
        rows = [
            (f"`{p['name']}`", words(p["schema"]), "yes" if p["required"] else _default(p["schema"]), p["description"])
            for p in entry["params"]
        ]
        parts.append(table(("parameter", "type", "required", "meaning"), rows))
    gives = f"{'Items' if feed else 'Result'}: {words(entry['result']['schema'])}."
    parts.append(gives + (" Needs the full token." if entry["x-mutates"] else ""))
    return "\n\n".join(parts)


def _type(name: str, schema: dict[str, Any]) -> str:
    about = markdown(schema.get("description", ""))
    if "properties" not in schema:
        return f"### {name}\n\n{about}\n\nOne of {words(schema)}."
    rows = [
        (f"`{key}`", words(value), markdown(value.get("description", "")))
        for key, value in schema["properties"].items()
    ]
    return f"### {name}\n\n{about}\n\n" + (table(("field", "type", "meaning"), rows) if rows else "No fields.")


def _default(schema: dict[str, Any]) -> str:
    default = schema.get("default")
    return "" if default in (None, "", 0, [], {}, False) else f"`{default}`"


def _first(text: str) -> str:
    return text.partition("\n")[0]


def _anchor(name: str) -> str:
    return name.replace(".", "")
