"""A Python for what the node itself runs inside a sandbox, isolated and without site packages."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Final, NamedTuple

SYSTEM: Final = Path("/usr/bin/python3")
"""The machine's own, which every sandbox shows anyway."""
_PYTHON: Final = "/opt/python"
LIBRARY_PATH: Final = f"{_PYTHON}/lib"
"""Where the libraries of the node's own lie inside, for LD_LIBRARY_PATH."""


class Interpreter(NamedTuple):
    """How it is called inside, what has to be bound for it, and where it then finds its libraries (empty: where everybody does)."""

    command: tuple[str, ...]
    binds: tuple[tuple[Path, str], ...] = ()
    library_path: str = ""


def own() -> Interpreter:
    """The node's. All of it, with what is installed in it."""
    return shown(Path(sys.base_prefix), Path(sys.executable))


def shown(prefix: Path, executable: Path) -> Interpreter:
    """One that is installed below `prefix`, shown inside at a neutral path, because it often lives in a home directory."""
    prefix = prefix.resolve()
    command = (f"{_PYTHON}/{executable.resolve().relative_to(prefix)}", "-I", "-S")
    return Interpreter(command, ((prefix, _PYTHON),), LIBRARY_PATH)


def inside(path: Path, prefix: Path) -> str:
    """Where something below the prefix of a shown one lies inside."""
    return f"{_PYTHON}/{path.resolve().relative_to(prefix.resolve())}"


def least(empty: Path, system: Path = SYSTEM) -> Interpreter:
    """One that shows a job as little as can be: the machine's, or the node's without what is installed in it.

    Args:
        empty: an empty directory.
        system: where the machine's would be.
    """
    if os.access(system, os.X_OK):
        return Interpreter((str(system), "-I", "-S"))
    interpreter, prefix = own(), Path(sys.base_prefix).resolve()
    variables = {"base": str(prefix), "platbase": str(prefix)}
    installed = {Path(sysconfig.get_path(name, vars=variables)) for name in ("purelib", "platlib")}
    hidden = sorted(path for path in installed if path.is_dir() and path.is_relative_to(prefix))
    binds = ((empty, f"{_PYTHON}/{path.relative_to(prefix)}") for path in hidden)
    return interpreter._replace(binds=(*interpreter.binds, *binds))
