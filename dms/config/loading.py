"""config.toml and DMS_… variables to a `Config`.

Order: defaults, then the file, then the environment. Every error is `bad_config` and names the place (file and line, or variable), the setting
and the rule.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec

from dms.config.migrations import Document, migrate
from dms.config.paths import Home
from dms.config.reference import Setting, nearest, sections, settings, unknown_setting
from dms.config.settings import Config
from dms_proto.errors import UserError
from dms_proto.units import SECOND, format_count, parse_bytes, parse_credits, parse_millicores, parse_millis

_AT: Final = re.compile(r"(.*) - at (?:`key` in )?`\$\.?([^`]*)`", re.DOTALL)
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
MAX_FILE_BYTES: Final = 1 << 20
"""A configuration is read whole; nobody writes a larger one by hand."""


def load_config(home: Home, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration of the node in `home`; without a file, the defaults and the environment.

    Raises:
        UserError: `bad_config`.
    """
    text = ""
    if home.config.exists():
        text = _read(home.config)
    return parse_config(text, home.config, os.environ if environ is None else environ)


def parse_config(
    text: str, file: Path, environ: Mapping[str, str], given: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """What `text`, the content of `file`, and the variables of `environ` say together.

    Args:
        text: TOML.
        file: named in errors, with the line.
        environ: its DMS_… variables count.
        given: names the place of a setting ("section.name") that errors shall tell instead of the file's line.

    Raises:
        UserError: `bad_config`.
    """
    source = _Source(file, text)
    try:
        document = migrate(tomllib.loads(text, parse_float=Decimal))
    except tomllib.TOMLDecodeError as error:
        rule = "each [section] stands once, with all its settings below it, and text stands in quotes"
        raise UserError("bad_config", f"{file} is not TOML: {error}", hint=rule) from error
    except UserError as error:
        raise UserError(error.code, f"{source.at('', 'version')}: {error.message}", hint=error.hint) from error
    _refuse_unknown(document, source)
    places = {**given, **_overlay(document, environ)}
    _convert_units(document, source, places)
    try:
        return msgspec.convert(document, Config)
    except msgspec.ValidationError as error:
        raise _explain(error, document, source, places) from error


class _Source:
    """Finds the line of a setting in the text, for error messages."""

    def __init__(self, file: Path, text: str) -> None:
        self.file = file
        self._lines = text.splitlines()

    def at(self, section: str, name: str) -> str:
        line = self._line(section, name)
        return f"{self.file}:{line}" if line else str(self.file)

    def _line(self, section: str, name: str) -> int:
        """1-based; the section's own line when the key is not found (inline table, dotted key); 0 when neither is."""
        key = re.compile(rf"""\s*["']?{re.escape(name)}["']?\s*[=.]""")
        whole = re.compile(rf"""\s*["']?{re.escape(section)}["']?\s*[=.]""")
        current, fallback = "", 0
        for number, line in enumerate(self._lines, start=1):
            header = re.match(r"\s*\[+\s*([^\]\s]+)\s*\]", line)
            if header:
                current = header[1].strip("\"'")
                if current == section:
                    fallback = fallback or number
            elif current == section and name and key.match(line):
                return number
            elif not current and section and whole.match(line):
                fallback = fallback or number
        return fallback


def _read(file: Path) -> str:
    try:
        raw = file.read_bytes()
        if len(raw) > MAX_FILE_BYTES:
            raise UserError("bad_config", f"{file} has {format_count(len(raw), 'byte')}, more than {MAX_FILE_BYTES}")
        return raw.decode()
    except UnicodeDecodeError as error:
        raise UserError("bad_config", f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error
    except OSError as error:
        raise UserError("bad_config", f"{file} cannot be read: {error.strerror}") from error


def _refuse_unknown(document: Document, source: _Source) -> None:
    known = sections()
    for section, table in document.items():
        if section == "version":
            continue
        if section not in known:
            owner = next((s.key for s in settings() if s.name == section), "") or nearest(section, known)
            raise unknown_setting(
                source.at(section, "") if isinstance(table, dict) else source.at("", section), section, owner
            )
        if not isinstance(table, dict):
            raise UserError("bad_config", f"{source.at('', section)}: {section} is a section; write [{section}]")
        names = [setting.name for setting in settings() if setting.section == section]
        for name in table:
            if name not in names:
                likely = nearest(name, names)
                elsewhere = next((s.key for s in settings() if s.name == name), "")
                raise unknown_setting(
                    source.at(section, name), f"{section}.{name}", f"{section}.{likely}" if likely else elsewhere
                )


def _overlay(document: Document, environ: Mapping[str, str]) -> dict[str, str]:
    """Writes the DMS_… variables into `document`; returns which setting came from which variable."""
    by_variable = {setting.env: setting for setting in settings()}
    prefixes = tuple(f"DMS_{section.upper()}_" for section in sections())
    places = {}
    for variable, text in environ.items():
        if not variable.startswith(prefixes):
            continue
        setting = by_variable.get(variable)
        if setting is None:
            raise unknown_setting("environment", variable, nearest(variable, by_variable))
        document[setting.section] = {**document.get(setting.section, {}), setting.name: _from_text(setting, text)}
        places[setting.key] = f"environment {variable}"
    return places


def _from_text(setting: Setting, text: str) -> Any:
    """The TOML value a variable stands for: lists are comma-separated, tables are ``key=value`` pairs."""
    match setting.kind:
        case "bool" if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        case "int" if not setting.unit and re.fullmatch(r"-?[0-9]{1,18}", text):
            return int(text)
        case "list":
            return [item.strip() for item in text.split(",") if item.strip()]
        case "table":
            pairs = (item.partition("=") for item in text.split(",") if item.strip())
            return {key.strip(): value.strip() for key, _, value in pairs}
        case _:
            return text  # a string, a quantity with its unit, or something `convert` will refuse by name


def _convert_units(document: Document, source: _Source, places: Mapping[str, str]) -> None:
    for setting in settings():
        table = document.get(setting.section, {})
        if not setting.unit or setting.name not in table:
            continue
        value = table[setting.name]
        try:
            converted = quantity(value, setting.unit)
        except ValueError as error:
            place = places.get(setting.key) or source.at(setting.section, setting.name)
            raise UserError("bad_config", f"{place}: {setting.key}: {error}") from error
        document[setting.section] = {**table, setting.name: converted}


def quantity(value: Any, unit: str) -> Any:
    """A written quantity as an integer of its unit. What is neither number nor text is given back for the type check to refuse.

    Raises:
        ValueError: not a quantity of that unit.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return value
    text = format(value, "f") if isinstance(value, Decimal) else str(value)
    bare = re.fullmatch(r"\s*(-?[0-9]{1,18})\s*", text)
    if bare and unit in ("bytes", "ms", "seconds"):  # a bare number is already in the setting's unit
        return int(bare[1])
    return _READERS[unit](text)


def _parse_seconds(text: str) -> int:
    seconds, rest = divmod(parse_millis(text), SECOND)
    if rest:
        raise ValueError(f"{text!r} is not a whole number of seconds")
    return seconds


_READERS: Final[dict[str, Callable[[str], int]]] = {
    "cores": parse_millicores,
    "bytes": parse_bytes,
    "ms": parse_millis,
    "seconds": _parse_seconds,
    "credits": parse_credits,
    "credits per hour": parse_credits,
}


def _explain(
    error: msgspec.ValidationError, document: Document, source: _Source, places: Mapping[str, str]
) -> UserError:
    """Msgspec's message, with the place and the value that broke the rule."""
    match = _AT.fullmatch(str(error))
    rule, path = (match[1], match[2]) if match else (str(error), "")
    section, _, rest = path.partition(".")
    name = re.split(r"[\[.]", rest)[0]
    value = document.get(section, {}).get(name)
    place = places.get(f"{section}.{name}") or source.at(section, name)
    return UserError("bad_config", f"{place}: {section}.{name} is {_show(value)}: {rule[0].lower()}{rule[1:]}")


def _show(value: Any) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
