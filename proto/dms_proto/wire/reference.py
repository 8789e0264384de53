"""The reference of the wire as Markdown, read from the types: what `proto/README.md` and the message reference of the documentation contain.

Each kind's meaning is the first paragraph of its docstring, each field's its line under "Attributes:"; bounds come from the field's type.
"""

from __future__ import annotations

import inspect as python
from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final

import msgspec
from msgspec import inspect

from dms_proto import egress, images, rules
from dms_proto.messages import GOSSIPED, KINDS
from dms_proto.units import MAX_QUANTITY, format_count
from dms_proto.wire.refusals import RULES
from dms_proto.wire.scores import POINTS


def _pattern(alias: object) -> str | None:
    found = inspect.type_info(alias)
    assert isinstance(found, inspect.StrType)
    return found.pattern


_PATTERNS: Final = {
    _pattern(alias): words
    for alias, words in (
        (rules.GoodRequestId, "request id"),
        (rules.GoodBidId, "bid id"),
        (rules.BidIdOrNone, "bid id or empty"),
        (rules.GoodAllocationId, "allocation id"),
        (rules.GoodTabId, "tab id"),
        (rules.GoodGrantId, "grant id"),
        (rules.GoodPeerId, "peer id"),
        (rules.Uuid, "UUID"),
        (rules.GoodDigest, "digest"),
        (rules.DigestOrNone, "digest or empty"),
        (images.PinnedImage, "image by digest or empty"),
        (egress.Destination, "destination: host, or `*`, or `*.` and a name, then a colon and the port; lower case"),
        (rules.RelativePath, "relative path"),
        (rules.PathOrNone, "relative path or empty"),
        (rules.Argument, "text without NUL"),
        (rules.VariableName, "text without NUL and ="),
        (rules.SecretName, "up to 128 letters, digits and _, the first no digit"),
    )
}

_USUAL: Final = {
    "request_id": "the job this is about.",
    "round": "the round it belongs to.",
    "bid_id": "the bid this is about.",
    "allocation_id": "the allocation this is about.",
    "tab_id": "the tab this is about.",
}
"""Fields whose meaning is the same wherever they stand."""


def refusals_reference() -> str:
    """A table of the refusal codes, in the order of the checks."""
    rows = [
        (
            f"`{code}`",
            rule.meaning,
            _yes(is_true=rule.is_answered),
            _yes(is_true=rule.is_passing),
            f"{rule.offence} ({POINTS[rule.offence]})" if rule.offence is not None else "",
        )
        for code, rule in RULES.items()
    ]
    return _table(("code", "meaning", "answered", "may pass later", "offence (points)"), rows)


def kinds_reference() -> str:
    """A section for each kind, then one for each type they are made of."""
    parts: dict[str, type[msgspec.Struct]] = {}
    for kind in KINDS.values():
        _collect(inspect.type_info(kind), parts)
    sections = [_section(kind, "gossiped or direct" if name in GOSSIPED else "direct") for name, kind in KINDS.items()]
    sections += [_section(part, "part") for name, part in sorted(parts.items()) if name not in KINDS]
    return "\n\n".join((*sections, _enums(parts)))


def type_in_words(found: inspect.Type) -> str:
    """A field's type and bounds, as a person reads it."""
    match found:
        case inspect.IntType():
            words = f"integer {_number(found.ge, found.gt, 1)} to {_number(found.le, found.lt, -1)}"
        case inspect.StrType(pattern=str() as pattern):
            words = _PATTERNS[pattern]
        case inspect.StrType():
            words = f"text, at most {format_count(found.max_length or 0, 'character')}"
        case inspect.BytesType():
            words = f"bytes, at most {found.max_length}"
        case inspect.EnumType():
            words = f"one of [{found.cls.__name__}](#enumerations)"
        case inspect.StructType():
            words = f"[{found.cls.__name__}](#{found.cls.__name__.lower()})"
        case inspect.BoolType():
            words = "boolean"
        case inspect.NoneType():
            words = "nil"
        case _:
            words = _composed_in_words(found)
    return words


def _composed_in_words(found: inspect.Type) -> str:
    match found:
        case inspect.VarTupleType():
            return f"array of {found.min_length or 0} to {found.max_length}: {type_in_words(found.item_type)}"
        case inspect.TupleType():
            return "array [" + ", ".join(type_in_words(each) for each in found.item_types) + "]"
        case inspect.DictType():
            key, value = type_in_words(found.key_type), type_in_words(found.value_type)
            return f"map of at most {found.max_length}: {key} to {value}"
        case inspect.UnionType():
            return " or ".join(type_in_words(each) for each in found.types)
        case _:
            raise TypeError(f"no words for {found}")


def _section(kind: type[msgspec.Struct], way: str) -> str:
    summary, meanings = _docstring(kind)
    rows = [
        (
            f"`{field.encode_name}`",
            type_in_words(field.type),
            _default(field),
            meanings.get(field.name) or _USUAL[field.name],
        )
        for field in _fields(kind)
    ]
    return f"### {kind.__name__}\n\n*{way}* — {summary}\n\n" + _table(("field", "type", "default", "meaning"), rows)


def _fields(kind: type[msgspec.Struct]) -> tuple[inspect.Field, ...]:
    found = inspect.type_info(kind)
    assert isinstance(found, inspect.StructType)
    return found.fields


def _docstring(kind: type[msgspec.Struct]) -> tuple[str, dict[str, str]]:
    """The first paragraph on one line, and the meaning of each field."""
    text = python.cleandoc(kind.__doc__ or "")
    body, _, attributes = text.partition("\nAttributes:\n")
    meanings: dict[str, str] = {}
    name = ""
    for line in attributes.splitlines():
        indent = len(line) - len(line.lstrip())
        if indent == 4:
            names, _, meaning = line.strip().partition(": ")
            name = names
            meanings[name] = meaning
        elif indent > 4:
            meanings[name] += " " + line.strip()
    return " ".join(body.split("\n\n")[0].split()), meanings


def _default(field: inspect.Field) -> str:
    if field.required:
        return "required"
    default = field.default_factory() if callable(field.default_factory) else field.default
    if isinstance(default, msgspec.Struct):
        return "its defaults"
    return f"`{msgspec.json.encode(default).decode()}`"


def _collect(found: inspect.Type, parts: dict[str, type[msgspec.Struct]]) -> None:
    for struct in _structs(found):
        if struct.cls.__name__ not in parts:
            parts[struct.cls.__name__] = struct.cls
            for field in struct.fields:
                _collect(field.type, parts)


def _structs(found: inspect.Type) -> Iterator[inspect.StructType]:
    match found:
        case inspect.StructType():
            yield found
        case inspect.VarTupleType():
            yield from _structs(found.item_type)
        case inspect.UnionType():
            for each in found.types:
                yield from _structs(each)
        case _:
            return


def _enums(parts: dict[str, type[msgspec.Struct]]) -> str:
    enums: dict[str, type[Enum]] = {}
    for part in parts.values():
        for field in _fields(part):
            inner = field.type.item_type if isinstance(field.type, inspect.VarTupleType) else field.type
            if isinstance(inner, inspect.EnumType):
                enums[inner.cls.__name__] = inner.cls
    rows = [
        (name, ", ".join(f"`{member.value}`" for member in enum), " ".join((enum.__doc__ or "").split()))
        for name, enum in sorted(enums.items())
    ]
    return "### Enumerations\n\n" + _table(("name", "values", "meaning"), rows)


def _number(inclusive: float | None, exclusive: float | None, step: int) -> str:
    number = int(inclusive) if inclusive is not None else int(exclusive or 0) + step
    return {MAX_QUANTITY: "2^53", 2**32: "2^32", 2**32 - 1: "2^32-1"}.get(number, str(number))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *[tuple(cell.replace("|", "\\|") for cell in row) for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _yes(*, is_true: bool) -> str:
    return "yes" if is_true else "no"
