"""What an expression may not do, decided on its text before it is compiled: bounds on size and shape, and unknown names.

The bounds make evaluation linear: no construct left can build a value larger than the expression or its data, or loop inside a loop.
The scanner knows only what it needs of CEL: strings, names, numbers, brackets.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

from dms_proto.errors import UserError
from dms_proto.units import format_count

MAX_LENGTH: Final = 1_000
"""Characters. The longest constraint anyone has asked for is a tenth of this."""
MAX_DEPTH: Final = 24
"""Open brackets. The parser gives up, loudly, near 100."""
MAX_LOOPS: Final = 8
MAX_PATTERN: Final = 64
"""Characters of a regular expression; each evaluation compiles it anew."""
MAX_PATTERNS: Final = 2

_LOOPS: Final = frozenset({"all", "exists", "exists_one", "existsOne", "filter"})
_FUNCTIONS: Final = frozenset(
    {"size", "contains", "startsWith", "endsWith", "matches", "has", "dyn", "type"}
    | {"double", "int", "uint", "string", "bytes", "duration", "timestamp"}
)
_TOKEN: Final = re.compile(
    r"""
    (?P<text>  [bB]?[rR](?:\"{3}.*?\"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')
             | [bB]?(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
  | (?P<comment>//[^\n]*)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>0[xX][0-9a-fA-F]+[uU]?|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?[uU]?)
  | (?P<space>\s+)
  | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_CLASS: Final = re.compile(r"\\[0-9A-Za-z]")
"""Classes such as \\w cover all of Unicode: milliseconds to compile. Escaped characters could spell one."""


class Token(NamedTuple):
    """A piece of an expression. `kind`: "text", "name", "number" or "sign"; `at`: index in the source."""

    kind: str
    text: str
    at: int


def check_structure(source: str) -> tuple[Token, ...]:
    """The tokens of an expression within the bounds.

    Raises:
        UserError: `bad_expression`: which bound it breaks, and where.
    """
    if not source.strip():
        _refuse(source[:MAX_LENGTH], "it is empty")
    if len(source) > MAX_LENGTH:
        _refuse(source[:40] + "…", f"it has {format_count(len(source), 'character')}; at most {MAX_LENGTH} are allowed")
    tokens = tuple(
        Token(match.lastgroup or "", match[0], match.start())
        for match in _TOKEN.finditer(source)
        if match.lastgroup not in ("space", "comment")
    )
    _check_brackets(source, tokens)
    _check_patterns(source, tokens)
    return tokens


def fields_used(
    source: str,
    tokens: Sequence[Token],
    schema: Mapping[str, frozenset[str]],
    *,
    functions: Iterable[str],
    variables: Iterable[str],
) -> dict[str, frozenset[str]]:
    """Which fields of which variables the expression can read; all of a variable's where it is not followed by a field's name.

    Args:
        source: the expression.
        tokens: as scanned.
        schema: the variables there are, and their fields.
        functions: all that the compiler saw called.
        variables: all that the compiler saw, loop variables among them. What it saw and the scanner did not is refused: then the bounds were not
            checked on what will run.

    Raises:
        UserError: `bad_expression`: a variable, field or function that does not exist.
    """
    for function in functions:
        if function[0].isalpha() and function not in _FUNCTIONS:
            _refuse(source, f"there is no function {function}", _index(tokens, function))
    own = _loop_variables(source, tokens, schema)
    uses: dict[str, frozenset[str]] = {}
    for i, token in enumerate(tokens):
        if token.kind == "name" and token.text in schema and not _is_member(tokens, i):
            uses[token.text] = uses.get(token.text, frozenset()) | _fields_at(source, tokens, i, schema[token.text])
    for variable in variables:
        if variable not in uses and variable not in own:
            _refuse(source, f"there is no {variable}{_meant(variable, schema)}", _index(tokens, variable))
    return uses


def _fields_at(source: str, tokens: Sequence[Token], i: int, fields: frozenset[str]) -> frozenset[str]:
    """Which of the variable's fields the mention at `i` reads."""
    dotted = i + 2 < len(tokens) and tokens[i + 1].text == "." and tokens[i + 2].kind == "name"
    if not dotted or not fields:
        return fields
    field = tokens[i + 2]
    if field.text not in fields:
        _refuse(source, f"{tokens[i].text} has no {field.text}{_meant(field.text, fields)}", field.at)
    return frozenset({field.text})


def _check_brackets(source: str, tokens: Sequence[Token]) -> None:
    """Depth, and loops: which are few, and never inside one another."""
    open_loops: list[bool] = []
    loops = 0
    for i, token in enumerate(tokens):
        if token.kind != "sign":
            continue
        if token.text in "([{":
            is_call = token.text == "(" and i >= 2 and tokens[i - 1].kind == "name" and tokens[i - 2].text == "."
            if is_call and tokens[i - 1].text == "map":
                _refuse(source, "map is not allowed: it could build lists without bound", tokens[i - 1].at)
            is_loop = is_call and tokens[i - 1].text in _LOOPS
            if any(open_loops) and is_call and (is_loop or tokens[i - 1].text == "matches"):
                _refuse(source, f"{tokens[i - 1].text} stands inside a loop", tokens[i - 1].at)
            loops += is_loop
            open_loops.append(is_loop)
            if len(open_loops) > MAX_DEPTH:
                _refuse(source, f"more than {MAX_DEPTH} brackets are open", token.at)
        elif token.text in ")]}" and open_loops:
            open_loops.pop()
    if loops > MAX_LOOPS:
        _refuse(source, f"it has {format_count(loops, 'loop')}; at most {MAX_LOOPS} are allowed")


def _check_patterns(source: str, tokens: Sequence[Token]) -> None:
    """A regular expression is one short literal of plain characters, so that compiling it, for every evaluation, is cheap."""
    calls = [i for i, token in enumerate(tokens) if token.kind == "name" and token.text == "matches"]
    if len(calls) > MAX_PATTERNS:
        _refuse(source, f"it has {format_count(len(calls), 'pattern')}; at most {MAX_PATTERNS} are allowed")
    for i in calls:
        around = [token.text for token in tokens[i + 1 : i + 4]]
        pattern = tokens[i + 2] if i + 2 < len(tokens) else None
        if pattern is None or pattern.kind != "text" or around[0] != "(" or around[-1] != ")":
            _refuse(source, "matches takes one literal pattern: value.matches('…')", tokens[i].at)
        if len(pattern.text) > MAX_PATTERN or "{" in pattern.text or _CLASS.search(pattern.text):
            limit = f"at most {MAX_PATTERN} characters, and neither {{n}} nor classes such as \\w; write [a-z0-9]"
            _refuse(source, f"a pattern may have {limit}", pattern.at)


def _loop_variables(source: str, tokens: Sequence[Token], schema: Mapping[str, frozenset[str]]) -> frozenset[str]:
    names = set()
    for i in range(3, len(tokens)):
        before, call, bracket, name = tokens[i - 3 : i + 1]
        if (before.text, bracket.text) == (".", "(") and call.text in _LOOPS and name.kind == "name":
            if name.text in schema:
                _refuse(source, f"{name.text} is a variable already; name the loop's otherwise", name.at)
            names.add(name.text)
    return frozenset(names)


def _is_member(tokens: Sequence[Token], i: int) -> bool:
    """Whether a name follows a value and a dot. A dot that begins an operand only says that the name is a variable."""
    return i > 1 and tokens[i - 1].text == "." and (tokens[i - 2].kind != "sign" or tokens[i - 2].text in ")]}")


def _index(tokens: Sequence[Token], name: str) -> int | None:
    return next((token.at for token in tokens if token.text == name), None)


def _meant(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(names))}"


def _refuse(source: str, why: str, at: int | None = None) -> NoReturn:
    place = "" if at is None else f", at column {at + 1}"
    raise UserError("bad_expression", f"{source!r} cannot be used{place}: {why}")
