"""Tests run once more by a user without rights who may have further user ids, as rootless engines need: on what is to them a machine of their own.

They have mounts, processes, memory files and a network of their own. Nothing of the machine is changed, and with the last of them all of it goes.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from dms.testing.plain_user import NOBODY, ROOT

FURTHER_IDS: Final = (200_000, 65_536)
"""The first, and how many: of users and of groups."""
_NEEDED: Final = ("unshare", "setpriv", "ip", "mount", "newuidmap", "newgidmap")
_FILES: Final = ("/etc/subuid", "/etc/subgid")
_APART: Final = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
_AS_NOBODY: Final = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


def run_tests(tests: Path, *, timeout_s: float) -> None:
    """Runs a file of tests; fails as they do. Skips where they cannot be run so, and where all of them skip.

    Args:
        tests: the file.
        timeout_s: for all of them.
    """
    if lack := _lack():
        pytest.skip(f"no rootless engine can be started: {lack}")
    # Not below pytest's own directory, which other users may not enter. Podman wants short paths.
    with tempfile.TemporaryDirectory(prefix="dms-", dir="/var/tmp", ignore_cleanup_errors=True) as home:
        command = [sys.executable, "-m", "pytest", str(tests), "-q", "-p", "no:cacheprovider"]
        command += [f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}", f"--basetemp={home}/tests"]
        os.chown(home, NOBODY, NOBODY)
        done = subprocess.run(
            [*_APART, "sh", "-ec", "\n".join(_preparing(Path(home))), "sh", *_AS_NOBODY, *command],
            env={"PATH": os.environ["PATH"], **dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "TMPDIR"), home)},
            cwd=home,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    if " passed" not in said:
        pytest.skip(said.strip().splitlines()[-2])


def _lack() -> str:
    if os.geteuid() != 0:
        return "these tests run as a plain user already"
    missing = [program for program in _NEEDED if shutil.which(program) is None]
    missing += [file for file in _FILES if not Path(file).exists()]
    return f"there is no {', '.join(missing)}" if missing else ""


def _preparing(home: Path) -> Iterator[str]:
    """The lines of a script that prepares the machine, and becomes its arguments."""
    ids = home / "ids"
    ids.write_text(f"{pwd.getpwuid(NOBODY).pw_name}:{':'.join(map(str, FURTHER_IDS))}\n")
    yield "mount --make-rprivate /"
    yield "mount -t tmpfs -o mode=1777 tmpfs /dev/shm"
    yield from (f"mount --bind {ids} {file}" for file in _FILES)
    yield "ip link set lo up"
    yield from _opened({sys.prefix, sys.base_prefix, str(ROOT)}, home)
    yield 'exec "$@"'


def _opened(places: set[str], home: Path) -> Iterator[str]:
    """Lets everybody get to these places, and to nothing beside them, where they lie in a directory that others may not enter: root's home is one."""
    closed = {place: above for place in sorted(places) if (above := _closed_above(Path(place)))}
    for number, place in enumerate(closed):
        yield f"mkdir {home}/{number}; mount --bind {place} {home}/{number}"
    yield from (f"mount -t tmpfs -o mode=755 tmpfs {above}" for above in sorted(set(closed.values())))
    for number, place in enumerate(closed):
        yield f"mkdir -p {place}; mount --bind {home}/{number} {place}"


def _closed_above(place: Path) -> Path | None:
    """The outermost directory above it that others may not enter."""
    return next((path for path in reversed(place.parents) if not path.stat().st_mode & 0o001), None)
