"""A Python that runs in every image: this node's own, as the few files that the agents load, and the machine's loader to start it.

::

    DIRECTORY/bin/python3
    DIRECTORY/lib/                what it is linked with; the loader is among it
    DIRECTORY/lib/python3.11/     the modules, compiled
    DIRECTORY/sources             which files of the machine these are copies of, as they were

An image need not have one, and what it has is a stranger's. It is shown read-only, and is all that is shown of this machine's software.
"""

from __future__ import annotations

import hashlib
import py_compile
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from dms.executors.oci import probe_image
from dms.executors.sandbox.interpreter import Interpreter
from dms_proto.errors import MachineError

PLACE: Final = "/run/dms/python"
"""Where it lies in a container."""
ASK_S: Final = 30.0
_LANDMARK: Final = "os.py"
"""By which Python finds where its modules are; it is built in, and would not be loaded."""
_SOURCES: Final = "sources"
_Stamp = tuple[int, int, int]
"""Inode, bytes, and when it was written, in ns: another file has others, and so has one that was changed."""
_ASK: Final = """
import os, sys
for text in sys.argv[1:]:
    exec(text, {"__name__": "looked_at"})
os.get_exec_path({})  # loads more, as executing a program by its name does
found = [getattr(module.__spec__, "origin", None) for module in list(sys.modules.values())]
print(sys._stdlib_dir, *(origin for origin in found if origin and origin.startswith("/")), sep="\\0", end="")
"""


def lay_out(above: Path, agents: Sequence[str]) -> tuple[Path, Interpreter]:
    """Makes it, unless it is there as the machine has it now: gives its directory, and how it is called inside.

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
    if not _is_current(directory):
        _make(directory, executable, agents)
    loader = [f"{PLACE}/lib/{path.name}" for path in (directory / "lib").glob("ld-*")]
    started = (*loader, "--library-path", f"{PLACE}/lib") if loader else ()
    return directory, Interpreter((*started, f"{PLACE}/bin/python3", "-I", "-S", "-X", "utf8"))


def _fingerprint(executable: Path, agents: Sequence[str]) -> str:
    """Of what decides which files these are."""
    return hashlib.sha256(repr((sys.version, str(executable), agents)).encode()).hexdigest()[:16]


def _is_current(directory: Path) -> bool:
    """Whether it is there, and every file is still what it was made of: an update of the machine's brings another interpreter, or another libc."""
    try:
        made_of = msgspec.json.decode((directory / _SOURCES).read_bytes(), type=dict[str, _Stamp])
        return all(_stamp(Path(path)) == stamp for path, stamp in made_of.items())
    except FileNotFoundError:
        return False


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _make(directory: Path, executable: Path, agents: Sequence[str]) -> None:
    copies = _copies(executable, *_asked(agents))
    fresh = directory.with_name(f".{directory.name}")
    shutil.rmtree(fresh, ignore_errors=True)
    stamps = {str(source): _stamp(source) for source in copies.values()}
    for target, source in copies.items():
        (fresh / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, fresh / target)
    for source in fresh.glob("lib/python*/**/*.py"):
        py_compile.compile(str(source), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
    (fresh / _SOURCES).write_bytes(msgspec.json.encode(stamps))
    for made in (fresh, *fresh.rglob("*")):
        made.chmod(0o755)  # it is read by the users of jobs, whatever this process keeps to itself
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)


def _copies(executable: Path, library: Path, modules: Sequence[Path]) -> dict[str, Path]:
    """What it consists of: where each file lies in it, and of which it is a copy."""
    inside = f"lib/{library.name}"
    copies = {f"{inside}/{path.relative_to(library)}": path for path in (library / _LANDMARK, *modules)}
    for program in (executable, *(path for path in modules if path.suffix == ".so")):
        for path in probe_image.libraries(str(program)):
            copies[f"lib/{Path(path).name}"] = Path(path)
    return {**copies, "bin/python3": executable}


def _asked(texts: Sequence[str]) -> tuple[Path, list[Path]]:
    """Where its library is, and which files of it were loaded for these programs."""
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", _ASK, *texts]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ASK_S, check=True, env={})
    except subprocess.SubprocessError as error:
        raise MachineError("executor_unavailable", f"{sys.executable} does not say what it loads: {error}") from error
    library, *found = done.stdout.decode().split("\0")
    return Path(library), sorted({path for path in map(Path, found) if path.is_relative_to(library)})
