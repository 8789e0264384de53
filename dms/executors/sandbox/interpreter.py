"""The node's own Python as sandboxes see it: at a neutral path, because it often lives in a home directory."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final, NamedTuple

_PYTHON: Final = "/opt/python"
LIBRARY_PATH: Final = f"{_PYTHON}/lib"
"""Where its libraries lie, for LD_LIBRARY_PATH."""


class Interpreter(NamedTuple):
    """How it is called inside, isolated and without site packages, and what has to be bound for it."""

    command: tuple[str, ...]
    bind: tuple[Path, str]


def interpreter() -> Interpreter:
    """The interpreter that runs this."""
    prefix, executable = Path(sys.base_prefix).resolve(), Path(sys.executable).resolve()
    return Interpreter((f"{_PYTHON}/{executable.relative_to(prefix)}", "-I", "-S"), (prefix, _PYTHON))
