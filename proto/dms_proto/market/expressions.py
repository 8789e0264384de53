"""Constraints and preferences in CEL, made safe: what users write can be wrong, slow or hostile, and must neither raise nor run long.

`compile_expression` refuses what is not valid, what names an unknown field or function, and whatever could grow without bound: long or deeply
nested texts, `map`, comprehensions inside comprehensions, regular expressions that are not short literals. What remains takes time linear in the
expression and the data. Evaluation is three-valued, as in ClassAds: a value, or `Unknown` with the reason (a field that is not there,
a division by zero, a type that does not fit). Neither side can take an unknown for a yes.

Numbers: quantities are doubles in the unit people use (cores, GiB, credits, seconds, milliseconds), counts are integers. Comparing the two is
fine; CEL does not mix them in arithmetic, so write ``price * 2.0``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import cel
import msgspec

from dms_proto.errors import UserError
from dms_proto.market.expression_rules import check_structure, fields_used

_RAISED: Final = (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, AttributeError)
"""What evaluating can raise, as the library documents it and a fuzz run over hostile expressions found it."""

Schema = Mapping[str, frozenset[str]]
"""The variables an expression may use, and the fields of each; no fields for a plain number or word."""


class Unknown(msgspec.Struct, frozen=True):
    """An expression has no value for this data; `reason` says why, in one line."""

    reason: str


class Wanted(NamedTuple):
    """What an expression has to give: of which types, in words, and how to write one that does."""

    types: tuple[type, ...]
    words: str
    hint: str


TRUTH: Final = Wanted((bool,), "true or false", "compare it with something: offer.memory_gib >= 4.0")
NUMBER: Final = Wanted((bool, int, float), "a number", "make a number of it: (provider.own ? 1.0 : 0.5)")


class Expression:
    """A compiled expression. Immutable; may be evaluated from any thread.

    Attributes:
        source: as it was written.
        uses: which fields of which variables it can read. Only these need be in the context.
    """

    __slots__ = ("_program", "source", "uses")

    def __init__(self, source: str, program: cel.Program, uses: Mapping[str, frozenset[str]]) -> None:
        self.source = source
        self.uses = uses
        self._program = program

    def evaluate(self, context: cel.Context | dict[str, Any]) -> object:
        """The value for `context`, or `Unknown`. Never raises."""
        try:
            value: object = self._program.execute(context)
        except KeyError as error:
            return Unknown(f"{error.args[0] if error.args else error} is not there")
        except _RAISED as error:
            return Unknown(_one_line(str(error)))
        return value

    def misfit(self, sample: dict[str, Any], wanted: Wanted) -> str:
        """What is wrong with its types, by trying it on a sample in which every field has a value; empty if nothing is."""
        try:
            value = self._program.execute(sample)
        except TypeError as error:
            return _one_line(str(error).replace("CEL does not", "An expression does not"))
        except _RAISED:
            return ""  # a label or device the sample lacks: with other data it may be there
        return "" if isinstance(value, wanted.types) else f"gives {_kind(value)}, not {wanted.words}"

    def is_true(self, context: cel.Context | dict[str, Any]) -> bool | Unknown:
        """True or false; a value of another type is `Unknown`."""
        value = self.evaluate(context)
        if isinstance(value, bool | Unknown):
            return value
        return Unknown(f"gives {_kind(value)}, not {TRUTH.words}")

    def number(self, context: cel.Context | dict[str, Any]) -> float | Unknown:
        """A finite number; any other value is `Unknown`. True counts as 1, false as 0."""
        value = self.evaluate(context)
        if isinstance(value, Unknown):
            return value
        if not isinstance(value, int | float):
            return Unknown(f"gives {_kind(value)}, not {NUMBER.words}")
        number = float(value) if abs(value) < 1e300 else float("inf")
        return number if abs(number) < float("inf") else Unknown("gives no finite number")


@lru_cache(maxsize=512)
def _compile(source: str, schema: tuple[tuple[str, frozenset[str]], ...]) -> Expression:
    known = dict(schema)
    tokens = check_structure(source)
    try:
        program = cel.compile(source)
    except _RAISED as error:
        raise UserError("bad_expression", _where(source, str(error))) from None
    uses = fields_used(source, tokens, known, functions=program.functions(), variables=program.variables())
    return Expression(source, program, uses)


def compile_expression(source: str, schema: Schema) -> Expression:
    """Compiles an expression over the variables of `schema`. The same source is compiled once.

    Raises:
        UserError: `bad_expression`: the message shows where it is wrong, or which rule it breaks.
    """
    return _compile(source, tuple(sorted(schema.items())))


def _where(source: str, error: str) -> str:
    """The parser's first complaint, with the place marked: its own message repeats the whole source per error."""
    lines = [line.strip() for line in error.splitlines() if "ERROR:" in line]
    if not lines:
        return f"{source!r} is not a valid expression: {_one_line(error)}"
    _, _, first = lines[0].partition("ERROR: <input>:")
    place, _, what = first.partition(": ")
    line, _, column = place.partition(":")
    what = what.partition(" expecting ")[0]
    at = f"column {column}" if line == "1" else f"line {line}, column {column}"
    return f"{source!r} is not a valid expression, at {at}: {_one_line(what)}"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else line[:199] + "…"


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a map"}
    return names.get(type(value), "null" if value is None else "something else")
