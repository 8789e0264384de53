"""Located values to a `JobDocument`, or every problem at once.

A walk over the types: unknown and missing fields, then each leaf by itself, so that one mistake does not hide the next. What the types cannot
say (two fields that need each other) is checked last, on what is right so far.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from dms.jobs.document import InputFile, JobDocument, Unit
from dms.jobs.problems import BadJob, Problem, nearest
from dms.jobs.source import MAX_DOCUMENT_BYTES, Located, located, parse
from dms_proto import units
from dms_proto.abilities import Ability, lack
from dms_proto.egress import read_destination
from dms_proto.images import is_image
from dms_proto.market import named_node
from dms_proto.rules import IDENTIFIER
from dms_proto.siblings import flaw_of
from dms_proto.verification.policy import Verification, faults
from dms_proto.work import PYTHON, ExecBy

MAX_LISTED: Final = 200
"""Problems collected before giving up."""
_AS_WRITTEN: Final = ("command", "env", "secrets")
"""Fields whose words are taken as written: ``1.10`` and ``yes`` stay what they look like."""
OWN_VARIABLES: Final = "DMS_SECRET_"
"""Begins the names of variables a document may take for secrets: it may come from somebody else, who has no business with the others."""
_MISSING: Final = object()
S = TypeVar("S", bound=msgspec.Struct)
_VARIABLE: Final = re.compile(IDENTIFIER, re.ASCII)
_PLACE: Final = re.compile(r" - at `\$?(.*?)`$")


def parse_share(text: str | float) -> int:
    """A part of a GPU, 0.001 to 1, in thousandths.

    Raises:
        ValueError: not a part of one.
    """
    try:
        milli = units.parse_millicores(text)  # thousandths are read the same way
    except ValueError:
        milli = units.Millicores(0)
    if not 1 <= milli <= units.GPU or str(text).endswith("m"):
        raise ValueError(f"{text!r} is not a part of one GPU such as 1 or 0.5")
    return milli


PARSERS: Final[dict[Unit, Callable[[Any], int]]] = {
    "bytes": units.parse_bytes,
    "duration": units.parse_millis,
    "cores": units.parse_millicores,
    "credits": units.parse_credits,
    "share": parse_share,
}
"""How each unit is read, into the integers of `dms_proto.units`."""


def amount(value: str | float, unit: Unit) -> int:
    """A quantity as written, in the integer unit that `unit` stands for.

    Raises:
        ValueError: not such a quantity; the message says what is accepted.
    """
    return PARSERS[unit](value)


class Loaded(NamedTuple):
    """A document as read.

    Attributes:
        document: with the defaults for what has problems.
        problems: all that its text tells.
        places: its values with their lines.
    """

    document: JobDocument
    problems: list[Problem]
    places: Located


def load(path: Path) -> Loaded:
    """What a file says, and all that is wrong with it, as far as its text tells. A job without a name gets the file's.

    Raises:
        BadJob: it cannot be read, or is no document at all.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise BadJob(str(path), [Problem(0, "", f"cannot be read: {error.strerror}")]) from error
    places = parse(data, str(path))
    document, problems = examine(places)
    named = document if document.name else msgspec.structs.replace(document, name=path.stem[:128])
    return Loaded(named, problems, places)


def job_of(fields: dict[str, Any], origin: str = "command line") -> JobDocument:
    """A job from plain values, by the same rules as from a file.

    Raises:
        BadJob: a field breaks a rule.
    """
    return check(located(fields), origin)


def check(root: Located, origin: str) -> JobDocument:
    """The document in `root`.

    Raises:
        BadJob: with all problems found.
    """
    document, problems = examine(root)
    if problems:
        raise BadJob(origin, problems)
    return document


def examine(root: Located) -> tuple[JobDocument, list[Problem]]:
    """The document in `root`, with the defaults for what has problems, and all problems found."""
    walk = _Walk()
    values = walk.fields(root, JobDocument, "") or {}
    document = JobDocument(**{name: value for name, value in values.items() if value is not _MISSING})  # type: ignore[arg-type] # each was converted
    wrong = {_first(problem.field) for problem in walk.problems}
    if "" not in wrong:
        walk.problems.extend(_relations(document, root, wrong))
    return document, walk.problems


def struct_of(root: Located, kind: type[S]) -> tuple[S | None, list[Problem]]:
    """A struct of any kind from located values, by the same rules as a document; or None, and what is wrong."""
    walk = _Walk()
    made = walk.struct(root, kind, "")
    return made if isinstance(made, kind) and not walk.problems else None, walk.problems


class _Walk:
    """Collects problems on the way down; a value with a problem becomes `_MISSING`."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def struct(self, node: Located, kind: type[msgspec.Struct], path: str) -> object:
        values = self.fields(node, kind, path)
        if values is None or any(value is _MISSING for value in values.values()):
            return _MISSING
        return kind(**values)

    def fields(self, node: Located, kind: type[msgspec.Struct], path: str) -> dict[str, object] | None:
        """The values of a struct's fields, by attribute; None if there is no mapping."""
        entries = node.value
        if not isinstance(entries, dict):
            self._wrong(node, path, f"a mapping of fields wanted, {_shown(node)} found")
            return None
        fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
        types = get_type_hints(kind, include_extras=True)
        values: dict[str, object] = {}
        for key, item in entries.items():
            if key in fields:
                values[fields[key].name] = self._value(item, types[fields[key].name], _below(path, key))
            else:
                self._wrong(item, _below(path, key), f"no such field; {nearest(key, fields)}")
        for key, field in fields.items():
            if field.required and key not in entries:
                values[field.name] = self._wrong(node, _below(path, key), "this field is required")
        return values

    def _value(self, node: Located, kind: Any, path: str) -> object:
        bare, unit = _unwrap(kind)
        struct = _struct_in(bare)
        if struct is not None and (struct is bare or not isinstance(node.value, str)):
            return self.struct(node, struct, path)
        element = _element_of(bare)
        if element is not None and isinstance(node.value, list):
            items = tuple(self._value(item, element, f"{path}[{index}]") for index, item in enumerate(node.value))
            return _MISSING if any(item is _MISSING for item in items) else self._leaf(node, kind, path, items)
        if unit is not None:
            return self._quantity(node, unit, path)
        if path in _AS_WRITTEN and isinstance(node.value, list):
            return self._leaf(node, kind, path, [item.text if _is_word(item) else item.plain() for item in node.value])
        if get_origin(bare) is dict and isinstance(node.value, dict):
            return self._dictionary(node, node.value, kind, path)
        return self._leaf(node, kind, path, node.plain())

    def _dictionary(self, node: Located, entries: dict[str, Located], kind: Any, path: str) -> object:
        element = get_args(_unwrap(kind)[0])[1]
        values = {key: self._entry(item, element, path, key) for key, item in entries.items()}
        return _MISSING if any(value is _MISSING for value in values.values()) else self._leaf(node, kind, path, values)

    def _entry(self, node: Located, kind: Any, path: str, key: str) -> object:
        if path in _AS_WRITTEN and _is_word(node):
            return self._leaf(node, kind, _below(path, key), node.text)
        return self._value(node, kind, _below(path, key))

    def _quantity(self, node: Located, unit: Unit, path: str) -> object:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            return self._wrong(node, path, f"a quantity wanted, {_shown(node)} found")
        try:
            # As written: a float read and printed again can turn 0.00001 into 1e-05.
            PARSERS[unit](node.text if isinstance(value, float) else value)
        except ValueError as error:
            return self._wrong(node, path, str(error))
        return node.text if isinstance(value, float) else value

    def _leaf(self, node: Located, kind: Any, path: str, value: object) -> object:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            match = _PLACE.search(str(error))
            inner = match[1] if match else ""
            at = _at(node, inner)
            return self._wrong(at, path + _shown_place(inner), _readable(_PLACE.sub("", str(error)), at, kind))

    def _wrong(self, node: Located, path: str, rule: str) -> object:
        if len(self.problems) < MAX_LISTED:
            self.problems.append(Problem(node.line, path, rule))
        return _MISSING


def unwrapped(kind: Any) -> Any:
    """A type without what is annotated to it."""
    return _unwrap(kind)[0]


def _unwrap(kind: Any) -> tuple[Any, Unit | None]:
    unit: Unit | None = None
    while get_origin(kind) is Annotated:
        for note in kind.__metadata__:
            unit = (getattr(note, "extra", None) or {}).get("unit", unit)
        kind = kind.__origin__
    return kind, unit


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """The struct that `kind` is, or may be beside a string."""
    for option in (kind, *get_args(kind)):
        if isinstance(option, type) and issubclass(option, msgspec.Struct) and get_origin(kind) is not tuple:
            return option
    return None


def _element_of(kind: Any) -> Any:
    """The element type when `kind` is a tuple, else None. Only tuples whose elements hold structs need the walk."""
    arguments = get_args(kind)
    if get_origin(kind) is tuple and _struct_in(_unwrap(arguments[0])[0]) is not None:
        return arguments[0]
    return None


def _is_word(node: Located) -> bool:
    """Whether a scalar stands there."""
    return not isinstance(node.value, dict | list | None)


def _readable(message: str, node: Located, kind: Any) -> str:
    """The message of msgspec with the value that was found, and the choices where there are some."""
    bare = _unwrap(kind)[0]
    if isinstance(bare, type) and issubclass(bare, StrEnum) and isinstance(node.value, str):
        return f"{node.value!r} is not one of {', '.join(bare)}"
    return message if "got" in message else f"{message}, found {_shown(node)}"


def _at(node: Located, place: str) -> Located:
    """The node at msgspec's `place` (``[3]``, ``[...]``) below `node`, as near as it can be told."""
    index = re.match(r"\[(\d+)\]", place)
    if index and isinstance(node.value, list) and int(index[1]) < len(node.value):
        return node.value[int(index[1])]
    return node


def _shown_place(place: str) -> str:
    return "" if place.startswith("[...]") else place


def _below(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _shown(node: Located) -> str:
    match node.value:
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case None:
            return "nothing"
        case scalar:
            return repr(scalar)


# ------------------------------------------------------------------------------------- rules that join fields, or need code


_APART: Final = frozenset(field.encode_name for field in msgspec.structs.fields(JobDocument)) - {
    "executor",
    "command",
    "module",
    "image",
}
"""Fields that may be wrong while something can still be said of the program. A name that is no field may be meant as one of the others."""


def _relations(job: JobDocument, root: Located, wrong: AbstractSet[str]) -> list[Problem]:
    """What the fields break together.

    Args:
        job: with the defaults for what is wrong.
        root: where it stands.
        wrong: fields with problems of their own; nothing more is said of them.
    """
    program = _program_rules(job) if wrong <= _APART else ()
    verify = () if "count" in wrong else _verify_rules(job)
    node = named_node.faults(job.pricing, verification_of(job)) if job.node else ()
    rules = (*program, *_text_rules(job), *_input_rules(job), *_secret_rules(job), *_amount_rules(job), *verify, *node)
    return [Problem(line_of(root, field), field, rule) for field, rule in rules if _first(field) not in wrong]


def _first(field: str) -> str:
    """The field of the document that a path begins with."""
    return re.split(r"[.\[]", field, maxsplit=1)[0]


def _program_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    """What has to be run, as field and broken rule."""
    yield from _image_rules(job)
    yield from _ability_rules(job)
    yield from _names_rules(job)
    if job.executor == "wasm":
        if not job.module:
            yield "module", "a wasm job needs the module's file"
        if isinstance(job.command, str):
            yield "command", "for wasm a list of arguments; there is no shell"
        return
    if job.executor == PYTHON:
        yield from _python_rules(job)
    elif not job.command and job.executor != "oci":
        yield "command", "a job needs a command"
    if job.module:
        yield "module", f"only wasm jobs have a module; the executor is {job.executor!r}"


def _ability_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    """What it wants beside its program; names are looked at with all that they need."""
    wanted = {
        Ability.PORTS: bool(job.ports),
        Ability.EXEC: job.exec is not ExecBy.NOBODY,
        Ability.EGRESS: bool(job.egress),
    }
    for ability, is_wanted in wanted.items():
        if is_wanted and (lacking := lack(job.executor, ability)):
            yield ability.value, lacking
    for index, text in enumerate(job.egress):
        try:
            read_destination(text)
        except ValueError as error:
            yield f"egress[{index}]", str(error)


def _names_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    is_checked = verification_of(job).is_on
    if job.names and (flaw := flaw_of(job.executor, job.count, len(job.ports), is_checked=is_checked)):
        yield "names", flaw


def _python_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    if isinstance(job.command, str) and job.command:
        yield "command", "for python a list, of the interpreter's arguments; there is no shell"


def _image_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    if job.executor != "oci":
        if job.image:
            yield "image", f"only oci jobs have an image; the executor is {job.executor!r}"
        elif job.pull != JobDocument().pull:
            yield "pull", f"only oci jobs pull an image; the executor is {job.executor!r}"
        return
    if not job.image:
        yield "image", "a job for a container needs an image"
    elif not is_image(job.image):
        yield "image", f"{job.image!r} is no name of an image, such as docker.io/library/python@sha256:…"


def verification_of(job: JobDocument) -> Verification:
    """How the job wants its results checked, as the protocol knows it."""
    wanted = job.verify
    return Verification(wanted.policy, wanted.copies, wanted.comparator, wanted.apart)


def _verify_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    """What stands in the way of checking results."""
    verify = verification_of(job)
    yield from ((f"verify.{field}", rule) for field, rule in faults(verify, job.count))
    if verify.is_on and job.together:
        yield "together", "results are checked of independent allocations only; leave `verify` out"
    if verify.is_on and job.secrets:
        yield "verify.policy", "a job with secrets would show them to every node that runs a copy; leave it at none"


def _text_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    arguments = (job.command,) if isinstance(job.command, str) else job.command
    if any("\0" in argument for argument in arguments):
        yield "command", "an argument contains a NUL character"
    for name, value in job.env.items():
        if not _VARIABLE.fullmatch(name):
            yield "env", f"{name!r} is not a name for an environment variable (letters, digits, _)"
        if "\0" in value:
            yield f"env.{name}", "the value contains a NUL character"
    for index, pattern in enumerate(job.outputs):
        if pattern.startswith("/") or ".." in pattern.split("/"):
            yield f"outputs[{index}]", f"{pattern!r} leaves the job's directory; patterns are relative, without '..'"


def _input_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    for index, item in enumerate(job.inputs):
        if isinstance(item, InputFile) and bool(item.path) == bool(item.dataset):
            yield f"inputs[{index}]", "it is either a `path` or a `dataset`"


def _secret_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    if job.cache and job.secrets:
        yield (
            "cache",
            "does not go with secrets: what they are is kept nowhere, so no earlier work is known to be the same",
        )
    for name, source in job.secrets.items():
        if not _VARIABLE.fullmatch(name):
            yield "secrets", f"{name!r} is not a name for a secret (letters, digits, _)"
        if isinstance(source, str):
            yield (
                f"secrets.{name}",
                f"a secret's value does not stand in a document; say where it is: {{env: {OWN_VARIABLES}{name}}} or {{file: PATH}}",
            )
        elif bool(source.env) == bool(source.file):
            yield f"secrets.{name}", "it comes from either `env` or `file`"
        elif source.as_ == "variable" and name in job.env:
            yield f"secrets.{name}", "`env` has a variable of that name"


def _amount_rules(job: JobDocument) -> Iterator[tuple[str, str]]:
    for field, value, unit in (
        ("resources.cpu", job.resources.cpu, "cores"),
        ("resources.memory", job.resources.memory, "bytes"),
        ("timeouts.run", job.timeouts.run, "duration"),
    ):
        if PARSERS[unit](value) == 0:  # type: ignore[index] # the three literals above
            yield field, "must be more than 0"
    for index, gpu in enumerate(job.resources.gpus):
        if amount(gpu.share, "share") < units.GPU and not amount(gpu.memory, "bytes"):
            yield f"resources.gpus[{index}].memory", "a share of a GPU says how much of its memory it may use"


def line_of(root: Located, field: str) -> int:
    """The line on which a field (dotted path with indexes) stands, or the nearest one around it."""
    node = root
    for key in field.replace("]", "").replace("[", ".").split("."):
        match node.value:
            case dict() as entries if key in entries:
                node = entries[key]
            case list() as items if key.isdigit() and int(key) < len(items):
                node = items[int(key)]
            case _:
                break
    return node.line
