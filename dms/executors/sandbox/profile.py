"""What a job sees: the options bubblewrap is started with. Pure; every trap named in the comments was seen to leak.

Options travel through a descriptor (`--args FD`), because a job can read bubblewrap's command line at /proc/1/cmdline.
The environment bubblewrap is started with must be empty: `--clearenv` does not clear /proc/1/environ.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms_proto.secrets import MAX_SECRETS, MAX_VALUE_BYTES
from dms_proto.units import MIB

JOB_UID: Final = 10_000
"""User and group id inside; outside, the job is a user of its own or the node's user."""
SCRATCH_BYTES: Final = 64 * MIB
"""Most that /tmp and /dev/shm may hold, each: without a size a tmpfs takes half of the machine's memory."""
SECRETS: Final = "/run/secrets"
SECRETS_BYTES: Final = 2 * MAX_SECRETS * MAX_VALUE_BYTES
"""Twice what they may have: a file takes whole pages."""
BASE_ENVIRONMENT: Final = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}  # noqa: S108 - the sandbox's own
HOST_LINKS: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
CA_BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"
"""Where a job finds the certificates that this machine trusts."""
CA_BUNDLES: Final = (
    "ssl/certs/ca-certificates.crt",
    "pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "ssl/ca-bundle.pem",
    "ssl/cert.pem",
)
"""Where they are in /etc: on Debian, Fedora, SUSE, Alpine and their kin."""
HOSTS: Final = "127.0.0.1 localhost job\n"
MASKED: Final = ("kallsyms", "keys", "timer_list", "cmdline", "interrupts", "diskstats", "partitions")
"""Files in /proc that are the machine's and not the job's. Those only root can read need no mask, which costs a mount: no job is the host's root."""


class View(msgspec.Struct, frozen=True):
    """What one job is shown, by the names it has for bubblewrap: numbers of descriptors, paths of directories.

    Attributes:
        job: its directory, the only one it can write to.
        etc: see `build_etc`.
        binds: (path, where it appears), read-only.
        devices: (device node, where it appears); one that is not there is passed over: some are made when they are first used.
        secrets: (descriptor to read it from, its name below `SECRETS`).
        status: descriptor for bubblewrap's reports.
        seccomp: descriptor of the filter.
        block: descriptor to wait on before the program starts, or -1.
        hosts: descriptor to read its /etc/hosts from, or -1: that of all.
    """

    job: str
    etc: str
    binds: tuple[tuple[str, str], ...] = ()
    devices: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[int, str], ...] = ()
    status: int = 3
    seccomp: int = 5
    block: int = -1
    hosts: int = -1


def host_options(root: Path = Path("/"), proc: Path = Path("/proc")) -> list[str]:
    """The part that is the same for every job on this machine."""
    options = [
        *[
            "--unshare-user",
            "--unshare-ipc",
            "--unshare-pid",
            "--unshare-net",
            "--unshare-uts",
            "--unshare-cgroup-try",
            "--disable-userns",
        ],
        *["--new-session", "--clearenv", "--hostname", "job", "--cap-drop", "ALL"],
        *("--uid", str(JOB_UID), "--gid", str(JOB_UID)),
        *("--ro-bind", "/usr", "/usr"),
    ]
    for name in HOST_LINKS:
        path = root / name
        if path.is_symlink():
            options += ["--symlink", str(path.readlink()).lstrip("/"), f"/{name}"]
        elif path.is_dir():
            options += ["--ro-bind", f"/{name}", f"/{name}"]
    # Started by root these would be writable doors to the host (core_pattern, drop_caches); the uid is dropped as well.
    options += ["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"]
    for name in MASKED:
        if _is_readable_by_all(proc / name):
            options += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    if (proc / "acpi").is_dir():
        options += ["--tmpfs", "/proc/acpi", "--remount-ro", "/proc/acpi"]
    return [*options, "--dev", "/dev"]


def job_options(view: View, environment: Mapping[str, str], memory_bytes: int) -> list[str]:
    """The part that differs between jobs; it follows `host_options`."""
    scratch = str(max(MIB, min(SCRATCH_BYTES, memory_bytes // 2)))
    options = ["--size", scratch, "--tmpfs", "/dev/shm", "--size", scratch, "--tmpfs", "/tmp"]  # noqa: S108
    options += ["--ro-bind", view.etc, "/etc"]
    if view.hosts >= 0:
        options += ["--perms", "0444", "--ro-bind-data", str(view.hosts), "/etc/hosts"]
    for source, target in view.binds:
        options += ["--ro-bind", source, target]
    for source, target in view.devices:
        options += ["--dev-bind-try", source, target]
    options += _secret_options(view.secrets)
    options += ["--bind", view.job, "/job", "--chdir", "/job", "--remount-ro", "/dev", "--remount-ro", "/"]
    for name, value in {**BASE_ENVIRONMENT, **environment}.items():
        options += ["--setenv", name, value]
    if view.block >= 0:
        options += ["--block-fd", str(view.block)]
    return [*options, "--seccomp", str(view.seccomp), "--json-status-fd", str(view.status)]


def _secret_options(secrets: Sequence[tuple[int, str]]) -> list[str]:
    """A file system of their own, in memory, that only the job's user can enter: they are on no disk and gone with the sandbox."""
    if not secrets:
        return []
    options = ["--perms", "0500", "--size", str(SECRETS_BYTES), "--tmpfs", SECRETS]
    for descriptor, name in secrets:
        options += ["--perms", "0400", "--file", str(descriptor), f"{SECRETS}/{name}"]
    return [*options, "--remount-ro", SECRETS]


def encode(options: Sequence[str]) -> bytes:
    """Options as `--args` reads them."""
    return b"".join(os.fsencode(option) + b"\0" for option in options)


def build_etc(directory: Path, host: Path = Path("/etc")) -> Path:
    """A directory to show as /etc: made-up users, no network configuration, and what the host's programs need to find their libraries.

    Raises:
        OSError: it cannot be written.
    """
    etc = directory / "etc"
    etc.mkdir(mode=0o755, exist_ok=True)
    etc.chmod(0o755)
    files = {
        "passwd": f"root:x:0:0:root:/root:/usr/sbin/nologin\njob:x:{JOB_UID}:{JOB_UID}:job:/tmp:/bin/sh\n",
        "group": f"root:x:0:\njob:x:{JOB_UID}:\n",
        "hosts": HOSTS,
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    }
    for name, text in files.items():
        _replace(etc / name, text.encode())
    if (host / "ld.so.cache").is_file():
        _replace(etc / "ld.so.cache", (host / "ld.so.cache").read_bytes())
    _copy_links(host / "alternatives", etc / "alternatives")
    return etc


def build_trusting_etc(directory: Path, host: Path = Path("/etc")) -> Path:
    """The same for jobs that connect to elsewhere: whom this machine trusts is in it as well, where programs look for that.

    Raises:
        OSError: it cannot be written.
    """
    directory.mkdir(mode=0o755, exist_ok=True)
    etc = build_etc(directory, host)
    found = next((host / name for name in CA_BUNDLES if (host / name).is_file()), None)
    if found is None:
        return etc
    data = found.read_bytes()
    for name in CA_BUNDLES:
        place = etc / name
        place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _replace(place, data)
    return etc


def _is_readable_by_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _copy_links(source: Path, target: Path) -> None:
    """Debian's /usr/bin/awk and others point here."""
    target.mkdir(mode=0o755, exist_ok=True)
    target.chmod(0o755)
    for link in source.iterdir() if source.is_dir() else ():
        if link.is_symlink() and not (target / link.name).is_symlink():
            (target / link.name).symlink_to(link.readlink())


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all: a sandbox may be starting with the old one. What is right stays: with it would go what a sandbox has mounted on it."""
    with suppress(OSError):
        if path.read_bytes() == data:
            return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_bytes(data)
    fresh.chmod(0o644)
    fresh.replace(path)
