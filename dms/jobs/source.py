"""Text to values that know their line. YAML and JSON, as one tree of `Located`.

YAML is read from the parser's events, not through its object constructors: there are no tags, no anchors and aliases (a few bytes of which
can stand for gigabytes), no duplicate keys, and the scalars are those of YAML 1.2's core schema, so ``country: NO`` is Norway and
``10:30`` is a string. JSON is read by its own reader, since YAML readers break its surrogate pairs and refuse its tabs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NoReturn

from dms.jobs.problems import BadJob, Problem
from dms_proto.units import format_bytes

MAX_DOCUMENT_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 16
"""A job document nests 4 deep."""
MAX_VALUES: Final = 50_000

Scalar = str | int | float | bool | None

_INT: Final = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?", re.ASCII)
_WORDS: Final[dict[str, Scalar]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


class Located:
    """A value and where it stands.

    Attributes:
        line: from 1; 0 when it did not come from a file.
        value: a scalar, a list of `Located`, or a dict of str to `Located`.
        text: a scalar as written, before it became a number or a boolean.
    """

    __slots__ = ("line", "text", "value")

    def __init__(self, value: Scalar | list[Located] | dict[str, Located], line: int, text: str = "") -> None:
        self.value = value
        self.line = line
        self.text = text

    def plain(self) -> object:
        """The value without places."""
        match self.value:
            case dict():
                return {key: item.plain() for key, item in self.value.items()}
            case list():
                return [item.plain() for item in self.value]
            case scalar:
                return scalar


def located(value: object) -> Located:
    """A plain value (of dicts, lists and scalars) as `Located` without a place; for jobs built by the command line."""
    match value:
        case dict():
            return Located({str(key): located(item) for key, item in value.items()}, 0)
        case list() | tuple():
            return Located([located(item) for item in value], 0)
        case float():
            return Located(
                value, 0, format(Decimal(repr(value)), "f")
            )  # as a person would write it: 0.00001, not 1e-05
        case str() | int() | bool() | None:
            return Located(value, 0, str(value))
        case _:
            raise TypeError(f"{type(value).__name__} cannot stand in a job document")


def parse(data: bytes, origin: str) -> Located:
    """The document in `data`: JSON when it begins with ``{`` and `origin` is not named as YAML, else YAML.

    Raises:
        BadJob: too large, not UTF-8, not well-formed, or it uses what is not accepted (see the module).
    """
    if len(data) > MAX_DOCUMENT_BYTES:
        raise _bad(origin, 0, f"larger than {format_bytes(MAX_DOCUMENT_BYTES)}, the most a job document may have")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _bad(origin, line, f"not UTF-8 text (byte 0x{data[error.start]:02x})") from error
    is_json = text.lstrip().startswith("{") and not origin.endswith((".yaml", ".yml"))
    return _parse_json(text, origin) if is_json else _parse_yaml(text, origin)


def _bad(origin: str, line: int, rule: str) -> BadJob:
    return BadJob(origin, [Problem(line, "", rule)])


# ------------------------------------------------------------------------------------------------------------------ YAML


def _parse_yaml(text: str, origin: str) -> Located:
    import yaml  # noqa: PLC0415 - only jobs in YAML pay for it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _YamlTree(origin).build(iter(yaml.parse(text, Loader=loader)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise _bad(origin, mark.line + 1 if mark else 0, f"not well-formed YAML: {what}") from error
    except yaml.YAMLError as error:
        raise _bad(origin, 0, f"not well-formed YAML: {' '.join(str(error).split())}") from error


class _YamlTree:
    """Builds one tree from parser events; recursion is bounded by `MAX_DEPTH`."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._count = 0

    def build(self, events: Iterator[object]) -> Located:
        root: Located | None = None
        for event in events:
            name = type(event).__name__
            if name in ("StreamStartEvent", "StreamEndEvent", "DocumentStartEvent", "DocumentEndEvent"):
                continue
            if root is not None:
                raise _bad(self._origin, _line(event), "a second YAML document begins; a job file holds one job")
            root = self._value(event, events, 1)
        if root is None:
            raise _bad(self._origin, 0, "empty; a job has at least a command")
        return root

    def _value(self, event: object, events: Iterator[object], depth: int) -> Located:
        self._refuse_specials(event, depth)
        match type(event).__name__:
            case "ScalarEvent":
                return _scalar(event)
            case "SequenceStartEvent":
                items = []
                while type(item := next(events)).__name__ != "SequenceEndEvent":
                    items.append(self._value(item, events, depth + 1))
                return Located(items, _line(event))
            case _:
                return self._mapping(event, events, depth)

    def _mapping(self, event: object, events: Iterator[object], depth: int) -> Located:
        entries: dict[str, Located] = {}
        while type(key_event := next(events)).__name__ != "MappingEndEvent":
            key = self._value(key_event, events, depth + 1)
            if isinstance(key.value, dict | list):
                raise _bad(self._origin, key.line, "a key is a word, not a list or mapping")
            if key.text in entries:
                raise _bad(
                    self._origin,
                    key.line,
                    f"the key {key.text!r} stands twice (first on line {entries[key.text].line})",
                )
            entries[key.text] = self._value(next(events), events, depth + 1)
        return Located(entries, _line(event))

    def _refuse_specials(self, event: object, depth: int) -> None:
        self._count += 1
        if type(event).__name__ == "AliasEvent" or getattr(event, "anchor", None) is not None:
            raise _bad(
                self._origin, _line(event), "anchors and aliases (& and *) are not accepted; write the value out"
            )
        if getattr(event, "tag", None) not in (None, "!"):
            raise _bad(
                self._origin, _line(event), f"the tag {getattr(event, 'tag', '')} is not accepted; write plain values"
            )
        if depth > MAX_DEPTH:
            raise _bad(self._origin, _line(event), f"nested deeper than {MAX_DEPTH} levels")
        if self._count > MAX_VALUES:
            raise _bad(self._origin, _line(event), f"more than {MAX_VALUES} values")


def _line(event: object) -> int:
    return int(event.start_mark.line) + 1  # type: ignore[attr-defined] # every parser event has a mark


def _scalar(event: object) -> Located:
    text: str = event.value  # type: ignore[attr-defined] # called for ScalarEvent only
    plain: bool = event.implicit[0] and not event.style  # type: ignore[attr-defined]
    return Located(_resolve_plain(text) if plain else text, _line(event), text)


def _resolve_plain(text: str) -> Scalar:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


# ------------------------------------------------------------------------------------------------------------------ JSON


def _parse_json(text: str, origin: str) -> Located:
    import json  # noqa: PLC0415

    reader = _JsonReader(text, origin)
    try:
        return reader.document()
    except json.JSONDecodeError as error:
        raise _bad(origin, error.lineno, f"not well-formed JSON: {error.msg}") from error


class _JsonReader:
    """RFC 8259, with the line of each value. Strings are read by the standard library, so escapes are right."""

    _SPACE: Final = re.compile(r"[ \t\r\n]*")
    _NUMBER: Final = re.compile(r"-?(0|[1-9][0-9]{0,17})(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", re.ASCII)
    _LITERALS: Final[dict[str, Scalar]] = {"true": True, "false": False, "null": None}

    def __init__(self, text: str, origin: str) -> None:
        self._text = text
        self._origin = origin
        self._at = 0
        self._line_now = 1
        self._line_at = 0

    def document(self) -> Located:
        value = self._value(1)
        self._skip_space()
        if self._at != len(self._text):
            self._fail("something follows the document")
        return value

    def _value(self, depth: int) -> Located:
        self._skip_space()
        line = self._line()
        if depth > MAX_DEPTH:
            raise _bad(self._origin, line, f"nested deeper than {MAX_DEPTH} levels")
        match self._text[self._at : self._at + 1]:
            case "{":
                return Located(self._object(depth), line)
            case "[":
                return Located(self._array(depth), line)
            case '"':
                text = self._string()
                return Located(text, line, text)
            case _:
                return self._word(line)

    def _object(self, depth: int) -> dict[str, Located]:
        entries: dict[str, Located] = {}
        self._at += 1
        if self._take("}"):
            return entries
        while True:
            self._skip_space()
            line = self._line()
            if self._text[self._at : self._at + 1] != '"':
                self._fail('a key in quotes or "}" expected')
            key = self._string()
            if key in entries:
                raise _bad(self._origin, line, f"the key {key!r} stands twice (first on line {entries[key].line})")
            if not self._take(":"):
                self._fail('":" expected')
            entries[key] = self._value(depth + 1)
            if self._take("}"):
                return entries
            if not self._take(","):
                self._fail('"," or "}" expected')

    def _array(self, depth: int) -> list[Located]:
        items: list[Located] = []
        self._at += 1
        if self._take("]"):
            return items
        while True:
            items.append(self._value(depth + 1))
            if self._take("]"):
                return items
            if not self._take(","):
                self._fail('"," or "]" expected')

    def _string(self) -> str:
        from json.decoder import scanstring  # type: ignore[attr-defined] # noqa: PLC0415 - JSON jobs only; typeshed lacks it

        line = self._line()
        text, self._at = scanstring(self._text, self._at + 1, True)
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise _bad(self._origin, line, "half of a surrogate pair: not a character")
        return str(text)

    def _word(self, line: int) -> Located:
        for word, value in self._LITERALS.items():
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return Located(value, line, word)
        match = self._NUMBER.match(self._text, self._at)
        if match is None:
            self._fail("a value expected")
        self._at = match.end()
        text = match[0]
        return Located(float(text) if match[2] or match[3] else int(text), line, text)

    def _take(self, character: str) -> bool:
        self._skip_space()
        if not self._text.startswith(character, self._at):
            return False
        self._at += 1
        return True

    def _skip_space(self) -> None:
        match = self._SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()

    def _line(self) -> int:
        # Counted from the last asked place, so the whole document is scanned once.
        self._line_now += self._text.count("\n", self._line_at, self._at)
        self._line_at = self._at
        return self._line_now

    def _fail(self, rule: str) -> NoReturn:
        raise _bad(self._origin, self._line(), f"not well-formed JSON: {rule}")
