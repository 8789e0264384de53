"""A Python that runs in every image: this node's own, as the few files that the agents load, and the machine's loader to start it.

::

    DIRECTORY/bin/python3
    DIRECTORY/lib/                what it is linked with; the loader is among it
    DIRECTORY/lib/python3.11/     the modules, compiled

An image need not have one, and what it has is a stranger's. It is shown read-only, and is all that is shown of this machine's software.
"""

from __future__ import annotations

import hashlib
import os
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dms.executors.oci import probe_image
from dms.executors.sandbox.interpreter import Interpreter
from dms_proto.errors import MachineError

PLACE: Final = "/run/dms/python"
"""Where it lies in a container."""
ASK_S: Final = 30.0
_LANDMARK: Final = "os.py"
"""By which Python finds where its modules are; it is built in, and would not be loaded."""
_ASK: Final = """
import os, sys
for text in sys.argv[1:]:
    exec(text, {"__name__": "looked_at"})
os.get_exec_path({})  # loads more, as executing a program by its name does
found = [getattr(module.__spec__, "origin", None) for module in list(sys.modules.values())]
print(sys._stdlib_dir, *(origin for origin in found if origin and origin.startswith("/")), sep="\\0", end="")
"""


def lay_out(above: Path, agents: Sequence[str]) -> tuple[Path, Interpreter]:
    """Makes it, unless it is there: gives its directory, and how it is called inside.

    Args:
        above: where its directory shall be; those of other Pythons go.
        agents: the text of each program that it is to run.

    Raises:
        OSError: no room or no permission.
        MachineError: `executor_unavailable`: this Python does not tell what it consists of.
    """
    executable = Path(sys.executable).resolve()
    directory = above / f"python-{_fingerprint(executable, agents)}"
    for other in above.glob("python-*"):
        if other != directory:
            shutil.rmtree(other, ignore_errors=True)
    if not directory.is_dir():
        _make(directory, executable, agents)
    loader = [f"{PLACE}/lib/{path.name}" for path in (directory / "lib").glob("ld-*")]
    started = (*loader, "--library-path", f"{PLACE}/lib") if loader else ()
    return directory, Interpreter((*started, f"{PLACE}/bin/python3", "-I", "-S", "-X", "utf8"))


def _fingerprint(executable: Path, agents: Sequence[str]) -> str:
    """Of all that decides which files these are: an update of the machine's makes another."""
    stamps = [(str(path), path.stat().st_mtime_ns) for path in (executable, Path(os.__file__))]
    return hashlib.sha256(repr((sys.version, stamps, agents)).encode()).hexdigest()[:16]


def _make(directory: Path, executable: Path, agents: Sequence[str]) -> None:
    library, modules = _asked(agents)
    fresh = directory.with_name(f".{directory.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    inside = fresh / "lib" / library.name
    for module in (library / _LANDMARK, *modules):
        _copy(module, inside / module.relative_to(library))
    for program in (executable, *(path for path in modules if path.suffix == ".so")):
        for path in probe_image.libraries(str(program)):
            _copy(Path(path), fresh / "lib" / Path(path).name)
    _copy(executable, fresh / "bin" / "python3")
    for source in inside.rglob("*.py"):
        py_compile.compile(str(source), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    for made in (fresh, *fresh.rglob("*")):
        made.chmod(0o755)  # it is read by the users of jobs, whatever this process keeps to itself
    fresh.rename(directory)


def _asked(texts: Sequence[str]) -> tuple[Path, list[Path]]:
    """Where its library is, and which files of it were loaded for these programs."""
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _ASK, *texts]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_S, check=True, env={})
    except subprocess.SubprocessError as error:
        raise MachineError("executor_unavailable", f"{sys.executable} does not say what it loads: {error}") from error
    library, *found = done.stdout.decode().split("\0")
    return Path(library), sorted({path for path in map(Path, found) if path.is_relative_to(library)})


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
