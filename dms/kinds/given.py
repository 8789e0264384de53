"""Parameters as a person gives them, for one kind: ``name=value``, a JSON object, or ``@FILE`` of YAML or JSON.

Later ones replace earlier ones, but that a list given as ``name=value`` more than once has all of these values. Text is taken as written where the
kind wants text; anything else is read as YAML, so ``seconds=5`` is a number and ``files=[a, b]`` a list; a mapping is JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_origin, get_type_hints

import msgspec

from dms.jobs.check import struct_of, unwrapped
from dms.jobs.problems import BadJob, Problem
from dms.jobs.source import MAX_DOCUMENT_BYTES, Located, parse
from dms.kinds import Kind
from dms_proto.errors import UserError

ORIGIN: Final = "--params"
FORMS: Final = "--params NAME=VALUE, --params '{\"NAME\": …}' or --params @FILE"
"""The way out where a text is none of them."""


def parameters_of(name: str, kind: Kind, texts: Sequence[str]) -> msgspec.Struct:
    """The parameters that `texts` give, checked.

    Raises:
        BadJob: with every problem: the parameter, what is wanted, what was found; the nearest name for one that does not exist.
        UserError: `bad_argument`: a text is none of the three forms, or its file cannot be read.
    """
    entries: dict[str, Located] = {}
    repeated: set[str] = set()
    try:
        for text in texts:
            _take(entries, repeated, text, kind)
    except BadJob as error:
        error.hint = FORMS
        raise
    made, problems = struct_of(Located(entries, 0), kind.parameters)
    if made is None:
        raise refused(name, problems)
    return made


def refused(name: str, problems: Sequence[Problem]) -> BadJob:
    """What is wrong with the parameters of the kind of this name."""
    error = BadJob(f"parameters of {name}", problems)
    error.hint = f"dms task show {name} lists them"
    return error


def _take(entries: dict[str, Located], repeated: set[str], text: str, kind: Kind) -> None:
    if text.startswith("@"):
        entries.update(_entries(_read(Path(text[1:])), text[1:]))
    elif text.lstrip().startswith("{"):
        entries.update(_entries(text.encode(), ORIGIN))
    else:
        _add(entries, repeated, text, kind)


def _add(entries: dict[str, Located], repeated: set[str], text: str, kind: Kind) -> None:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise UserError("bad_argument", f"{text!r} is no parameter", hint=FORMS)
    wanted = unwrapped(get_type_hints(kind.parameters, include_extras=True).get(name, str))
    if get_origin(wanted) is not tuple:
        entries[name] = _one(value, wanted, name)
        return
    listed = _one(value, None, name) if value.startswith("[") else Located([Located(value, 0, value)], 0)
    before = entries[name].value if name in repeated else []
    assert isinstance(before, list), "what is repeated is a list"
    repeated.add(name)
    entries[name] = Located([*before, *(listed.value if isinstance(listed.value, list) else [listed])], 0)


def _one(value: str, wanted: Any, name: str) -> Located:
    if isinstance(wanted, type) and issubclass(wanted, str):
        return Located(value, 0, value)
    found = parse(f"{value}\n".encode(), f"{ORIGIN} {name}")
    found.line = 0
    return found


def _entries(data: bytes, origin: str) -> dict[str, Located]:
    found = parse(data, origin).value
    if not isinstance(found, dict):
        raise BadJob(origin, [Problem(0, "", "a mapping of parameters wanted")])
    return found


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise UserError("bad_argument", f"{path} cannot be read: {error.strerror}") from error
