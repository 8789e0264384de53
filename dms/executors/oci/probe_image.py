"""A small image made of this machine's own programs: what an engine holds is tried on it, with no registry and nothing brought along."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from dms_proto.errors import MachineError

REPOSITORY: Final = "localhost/dms-probe"
_LIBRARY: Final = re.compile(r"(?:=> )?(/\S+) \(0x")


def archive(programs: Sequence[str], files: Sequence[Path] = ()) -> bytes:
    """A root file system with these programs and the libraries they are linked with, as a tar archive, the same each time.

    Args:
        programs: paths of programs and of libraries that programs load by themselves.
        files: others, which need nothing.

    Raises:
        MachineError: `executor_unavailable`: a program is missing.
    """
    found = {str(path): path for path in files}
    for program in programs:
        for path in (program, *libraries(program)):
            found[path] = Path(path).resolve()
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w") as tar:
        for directory in ("dev", "etc", "job", "proc", "run", "sys", "tmp"):
            tar.addfile(_directory(directory, 0o1777 if directory == "tmp" else 0o755))
        for name, source in sorted(found.items()):
            try:
                data = source.read_bytes()
            except OSError as error:
                raise MachineError(
                    "executor_unavailable", f"no image can be made to try the engine on: {error}"
                ) from error
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return into.getvalue()


def name_of(root: bytes) -> str:
    """How the image is called: by its content, so that another one is made when the machine's programs have changed."""
    return f"{REPOSITORY}-{hashlib.sha256(root).hexdigest()[:16]}"


def libraries(program: str) -> Iterator[str]:
    """What a program is linked with, as the loader finds it; nothing for one that needs nothing."""
    try:
        done = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return
    yield from _LIBRARY.findall(done.stdout)


def _directory(name: str, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, mode
    return entry
