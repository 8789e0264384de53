"""One setting in a config.toml, changed as a person would: everything else in the file stays as it is."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from dms.config.loading import parse_config
from dms.config.reference import write_toml


def with_setting(text: str, key: str, value: Any) -> str:
    """The file with a setting at a value.

    Args:
        text: TOML, in which the setting does not stand yet, or stands commented out as in the template.
        key: "section.name".
        value: a bool, number, string or list.
    """
    section, _, name = key.partition(".")
    line = f"{name} = {write_toml(value)}"
    lines = text.splitlines()
    header = next((at for at, each in enumerate(lines) if re.match(rf"\s*\[\s*{section}\s*\]", each)), None)
    if header is None:
        return "\n".join([*lines, "", f"[{section}]", line]) + "\n"
    end = next((at for at in range(header + 1, len(lines)) if re.match(r"\s*\[", lines[at])), len(lines))
    commented = (at for at in range(header + 1, end) if re.match(rf"#\s*{name}\s*=", lines[at]))
    at = next(commented, None)
    if at is None:
        lines.insert(header + 1, line)
    else:
        lines[at] = line
    return "\n".join(lines) + "\n"


def write_config(file: Path, text: str) -> None:
    """Replaces a config.toml whole, if the text is one.

    Raises:
        UserError: `bad_config`: it is none; then the file is as it was.
        OSError: there is no room for it.
    """
    parse_config(text, file, os.environ)
    partial = file.with_name(f".{file.name}")
    partial.write_text(text)
    if file.exists():
        partial.chmod(file.stat().st_mode & 0o777)
    partial.replace(file)
