"""The settings as data: for the reference page, the commented template of config.toml, the environment's names, and `nearest` names in errors."""

from __future__ import annotations

import difflib
import json
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Union

import msgspec
from msgspec import Meta

from dms.config.settings import VERSION, Config
from dms_proto.errors import UserError
from dms_proto.units import CORE, CREDIT, GIB, HOUR, KIB, MIB, MINUTE, SECOND


class Setting(msgspec.Struct, frozen=True):
    """One field of the configuration.

    Attributes:
        section: the table in config.toml.
        name: the key in that table.
        env: the environment variable that overrides it.
        kind: "bool", "int", "str", "list" or "table".
        unit: one of `settings.UNITS`.
        choices: allowed words, or empty.
        default: as a person would write it in TOML; empty for an unset field.
        description: meaning and consequence, as in the reference page.
    """

    section: str
    name: str
    env: str
    kind: str
    unit: str
    choices: tuple[str, ...]
    default: str
    description: str

    @property
    def key(self) -> str:
        """``section.name``."""
        return f"{self.section}.{self.name}"


@cache
def settings() -> tuple[Setting, ...]:
    """Every setting, in the order of the sections."""
    return tuple(
        _setting(section.name, field)
        for section in msgspec.structs.fields(Config)
        if section.name != "version"
        for field in msgspec.structs.fields(section.type)
    )


@cache
def sections() -> dict[str, str]:
    """Section name to its one-line description."""
    return {
        field.name: (field.type.__doc__ or "").strip().splitlines()[0]
        for field in msgspec.structs.fields(Config)
        if field.name != "version"
    }


def nearest(word: str, known: Iterable[str]) -> str:
    """The known name most like `word`, or empty when none is close."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else ""


def unknown_setting(place: str, key: str, likely: str) -> UserError:
    """What to say of a name that is no setting.

    Args:
        place: where it stands: file and line, a variable or an option.
        key: the name as it was given.
        likely: what was probably meant, or empty.
    """
    hint = f"did you mean {likely}?" if likely else "config.toml in a home names and explains every setting"
    return UserError("bad_config", f"{place}: {key} is not a setting", hint=hint)


def template(chosen: Mapping[str, Any] | None = None) -> str:
    """A config.toml that explains itself: every setting commented out at its default, except those `chosen`.

    Args:
        chosen: ``"section.name"`` to the value as a person would write it (``"provider.cpu": "2"``).

    Raises:
        UserError: `bad_config`: one of them is not a setting.
    """
    values = dict(chosen or {})
    known = [setting.key for setting in settings()]
    for key in values:
        if key not in known:
            raise unknown_setting("--set", key, nearest(key, known))
    lines = ["# Settings of this node. A line without # overrides the default shown.", f"version = {VERSION}"]
    for section, meaning in sections().items():
        lines += ["", f"# {meaning}", f"[{section}]"]
        for setting in settings():
            if setting.section == section:
                lines += _template_lines(setting, values)
    return "\n".join(lines) + "\n"


def write_toml(value: Any) -> str:
    """A bool, number, string, list or table of strings in TOML."""
    match value:
        case bool() | int() | float():
            return json.dumps(value)
        case str():
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
        case dict():
            return "{" + ", ".join(f"{write_toml(key)} = {write_toml(item)}" for key, item in value.items()) + "}"
        case _:
            return "[" + ", ".join(write_toml(item) for item in value) + "]"


def spell(value: int, unit: str) -> str | int:
    """A quantity as a person would write it, exactly: 10737418240 bytes -> "10GiB"."""
    match unit:
        case "cores":
            return f"{value // CORE}" if value % CORE == 0 else f"{value}m"
        case "bytes":
            return _largest(value, (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)))
        case "ms":
            return _largest(value, (("h", HOUR), ("m", MINUTE), ("s", SECOND))) if value >= SECOND else value
        case "credits" | "credits per hour":
            return f"{value // CREDIT}.{value % CREDIT:06d}".rstrip("0").rstrip(".")
        case _:
            return value


def _largest(value: int, units: Iterable[tuple[str, int]]) -> str | int:
    for name, size in units:
        if value and value % size == 0:
            return f"{value // size}{name}"
    return value


def _template_lines(setting: Setting, values: Mapping[str, Any]) -> list[str]:
    unit = f" ({setting.unit})" if setting.unit else ""
    line = (
        f"{setting.name} = {write_toml(values[setting.key])}"
        if setting.key in values
        else f"#{setting.name} = {setting.default or '(unset)'}"
    )
    meaning = textwrap.wrap(setting.description + unit, 110, break_on_hyphens=False, break_long_words=False)
    return ["", *(f"# {part}" for part in meaning), line]


def _setting(section: str, field: msgspec.structs.FieldInfo) -> Setting:
    bare, meta = _unwrap(field.type)
    unit = str((meta.extra or {}).get("unit", ""))
    value = field.default_factory() if field.default is msgspec.NODEFAULT else field.default
    default = "" if value is None else write_toml(spell(value, unit) if unit else value)
    return Setting(
        section=section,
        name=field.name,
        env=f"DMS_{section}_{field.name}".upper(),
        kind=_kind(bare),
        unit=unit,
        choices=_choices(bare),
        default=default,
        description=(meta.description or "").strip(),
    )


def _unwrap(annotated: Any) -> tuple[Any, Meta]:
    """The type below Annotated and Optional, and the outermost description."""
    described = next(m for m in reversed(annotated.__metadata__) if isinstance(m, Meta) and m.description)
    bare = annotated.__origin__
    if typing.get_origin(bare) in (Union, types.UnionType):
        bare = next(arg for arg in typing.get_args(bare) if arg is not type(None))
    return (bare.__origin__ if hasattr(bare, "__metadata__") else bare), described


def _kind(bare: Any) -> str:
    origin = typing.get_origin(bare)
    if origin is not None:
        return "table" if origin is dict else "list"
    return "bool" if bare is bool else "int" if bare is int else "str"


def _choices(bare: Any) -> tuple[str, ...]:
    for kind in (bare, *typing.get_args(bare)):
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return tuple(kind)
    return ()
