"""The Python that jobs get: what is asked of it once, outside the sandbox, and how it is then shown inside.

It is the owner's own program, so it is asked directly. What it finds in the directories of its packages is offered, and nothing else: what a file
there points at elsewhere (a package in editable form) stays unseen.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from dms.calls.libraries import library_of
from dms.executors.sandbox.interpreter import Interpreter, inside, shown
from dms_proto.errors import MachineError

_logger: Final = logging.getLogger(__name__)

MAX_OFFERED: Final = 512
"""Libraries a machine tells of: they are part of what it tells every peer about itself."""
SITE: Final = "/opt/site"
"""Below which packages from outside the interpreter's own directory appear."""
ASK_S: Final = 30.0
HINT: Final = "executors.python names an interpreter, such as /srv/jobs/bin/python; unset, it is the node's own"
_SYSTEM: Final = Path("/usr")
"""What every sandbox shows anyway."""
_LONGEST: Final = 128
_QUESTION: Final = """
import json, sys, sysconfig
names = ("purelib", "platlib")
base = {"base": sys.base_prefix, "platbase": sys.base_prefix}
packages = list(dict.fromkeys(sysconfig.get_path(name) for name in names)) if "packages" in sys.argv else []
libraries = []
if packages:
    import importlib.metadata
    libraries = sorted({
        (found.metadata["Name"], found.version)
        for found in importlib.metadata.distributions(path=packages)
        if found.metadata["Name"] and '"editable": true' not in (found.read_text("direct_url.json") or "")
    })
print(json.dumps({
    "version": "%d.%d" % sys.version_info[:2],
    "release": "%d.%d.%d" % sys.version_info[:3],
    "prefix": sys.base_prefix,
    "executable": getattr(sys, "_base_executable", "") or sys.executable,
    "packages": packages,
    "installed": [sysconfig.get_path(name, vars=base) for name in names],
    "libraries": libraries,
}))
"""


class Installation(msgspec.Struct, frozen=True):
    """What a Python says of itself.

    Attributes:
        version: such as "3.11".
        release: such as "3.11.7".
        prefix: directory of the interpreter and its standard library.
        executable: the interpreter itself, below `prefix`.
        packages: directories of what was installed for it; none where that was not asked.
        installed: directories of what was installed for the interpreter it is based on, if it is a virtual environment; else the same.
        libraries: (name, version) of what lies in `packages`.
    """

    version: str
    release: str
    prefix: str
    executable: str
    packages: tuple[str, ...]
    installed: tuple[str, ...]
    libraries: tuple[tuple[str, str], ...]


class Shown(msgspec.Struct, frozen=True):
    """An installation inside a sandbox.

    Attributes:
        interpreter: how it is called, and what has to be bound for it.
        path: where its packages lie there.
        libraries: what is offered, as "name==version".
    """

    interpreter: Interpreter
    path: tuple[str, ...]
    libraries: tuple[str, ...]


def ask(executable: str, *, with_packages: bool) -> Installation:
    """What the Python at a path says of itself.

    Args:
        executable: the path.
        with_packages: whether what was installed for it is of interest.

    Raises:
        MachineError: `executor_unavailable`.
    """
    command = [executable, "-I", "-c", _QUESTION, *(["packages"] if with_packages else [])]
    try:
        done = subprocess.run(command, capture_output=True, env={}, timeout=ASK_S, check=True)
        return msgspec.json.decode(done.stdout, type=Installation)
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it says nothing"]
        raise MachineError(
            "executor_unavailable", f"{executable} is no Python of ours: {last[0]}", hint=HINT
        ) from error
    except (OSError, subprocess.TimeoutExpired, msgspec.DecodeError) as error:
        raise MachineError("executor_unavailable", f"{executable} is no Python of ours: {error}", hint=HINT) from error


def show(found: Installation, empty: Path) -> Shown:
    """How it appears inside.

    Args:
        found: by `ask`.
        empty: an empty directory, which hides others.
    """
    interpreter = _interpreter(found, empty)
    prefix, binds, path = Path(found.prefix), list(interpreter.binds), list[str]()
    for number, directory in enumerate(found.packages):
        if Path(directory).is_relative_to(prefix):
            path.append(_inside(Path(directory), prefix))
        elif Path(directory).is_dir():
            path.append(f"{SITE}/{number}")
            binds.append((Path(directory).resolve(), path[-1]))
    return Shown(interpreter._replace(binds=tuple(binds)), tuple(path), (f"python=={found.version}", *_offered(found)))


def _interpreter(found: Installation, empty: Path) -> Interpreter:
    """The interpreter. What was installed for it is hidden, unless that is what shall be seen."""
    prefix, executable = Path(found.prefix), Path(found.executable)
    if prefix == _SYSTEM:
        return Interpreter((str(executable), "-I", "-S"))
    interpreter = shown(prefix, executable)
    hidden = sorted(map(Path, set(found.installed) - set(found.packages)))
    binds = ((empty, inside(place, prefix)) for place in hidden if place.is_dir() and place.is_relative_to(prefix))
    return interpreter._replace(binds=(*interpreter.binds, *binds))


def _inside(path: Path, prefix: Path) -> str:
    return str(path) if prefix == _SYSTEM else inside(path, prefix)


def _offered(found: Installation) -> Iterator[str]:
    """Each package once, as a requirement names it."""
    named = {library_of(name): library_of(name, version) for name, version in found.libraries}
    fitting = [library for library in named.values() if len(library) <= _LONGEST]
    if len(fitting) > MAX_OFFERED:
        _logger.warning("%s has %d packages; the first %d are offered", found.executable, len(fitting), MAX_OFFERED)
    yield from fitting[:MAX_OFFERED]
