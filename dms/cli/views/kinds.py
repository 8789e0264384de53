"""Kinds of tasks: a list, and the parameters of one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from dms.cli.blocks import Block, Line, Table
from dms.kinds.installed import Installed

_TYPES: Final = {
    "string": "text",
    "integer": "number",
    "number": "number",
    "boolean": "true or false",
    "object": "mapping",
}


class Listed(msgspec.Struct, frozen=True, omit_defaults=True):
    """One kind of task.

    Attributes:
        name: by which it is asked for.
        about: what it does.
        package: which brings it; `version`: that one's.
        failed: why it cannot be used.
    """

    name: str
    about: str
    package: str
    version: str
    failed: str = ""


def listed(found: Iterable[Installed]) -> tuple[Listed, ...]:
    """What is told of the kinds."""
    return tuple(
        Listed(each.name, each.kind.about if each.kind is not None else "", each.package, each.version, each.failed)
        for each in found
    )


def kind_list(kinds: Sequence[Listed]) -> Iterator[Block]:
    """One line for each."""
    yield Table(
        ("KIND", "PACKAGE", "WHAT IT DOES"),
        [(kind.name, f"{kind.package} {kind.version}", kind.about or f"it {kind.failed}") for kind in kinds],
    )


def parameters(name: str, about: str, schema: Mapping[str, Any]) -> Iterator[Block]:
    """What a kind takes, as its JSON Schema says."""
    yield Line(f"{name}: {about}", "strong")
    required, definitions = schema.get("required", ()), schema.get("$defs", {})
    rows = [
        (
            parameter,
            _type(said, definitions),
            "required" if parameter in required else json.dumps(said.get("default")),
            said.get("description", ""),
        )
        for parameter, said in schema.get("properties", {}).items()
    ]
    yield Table(("PARAMETER", "TYPE", "DEFAULT", "MEANING"), rows) if rows else Line("It takes no parameters.")


def _type(said: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "$ref" in said:
        return _type(definitions[said["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in said or "allOf" in said:
        return " or ".join(dict.fromkeys(_type(each, definitions) for each in said.get("anyOf") or said["allOf"]))
    if "enum" in said:
        return "|".join(map(str, said["enum"]))
    if said.get("type") == "array":
        return f"list of {_type(said.get('items', {}), definitions)}"
    return _TYPES.get(str(said.get("type", "")), "anything")
