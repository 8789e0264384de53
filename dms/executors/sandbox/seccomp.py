"""The system call filter of every sandbox: calls that widen a job's reach are refused, all others pass.

Refused with EPERM, as an unprivileged process would see it; calls for which the C library has a fallback report ENOSYS so that it is taken.
The program is built once by libseccomp and kept as a file: bubblewrap loads it from a descriptor.
"""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Any, Final

from dms_proto.errors import MachineError

_DENIED_TEXT: Final = """
    acct add_key bpf chroot clock_adjtime clock_settime create_module delete_module fanotify_init finit_module fsconfig fsmount fsopen
    fspick get_kernel_syms init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind migrate_pages modify_ldt
    mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl open_by_handle_at open_tree perf_event_open personality
    pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev ptrace query_module quotactl quotactl_fd reboot request_key
    set_mempolicy setdomainname sethostname setns settimeofday stime swapoff swapon sysfs syslog umount umount2 unshare uselib userfaultfd
    ustat vhangup vm86 vm86old vserver
"""
DENIED: Final = tuple(_DENIED_TEXT.split())
ABSENT: Final = ("clone3", "io_uring_enter", "io_uring_register", "io_uring_setup")
"""clone3 takes its flags in memory, where a filter cannot look; libc falls back to clone. io_uring bypasses filters."""
NEWER: Final = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "statmount": 457,
    "listmount": 458,
    "open_tree_attr": 467,
    "listns": 470,
}
"""Calls an older libseccomp has no name for, with the number they have on every architecture."""
NAMESPACE_FLAGS: Final = (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. The first is for unshare only: clone has a signal number there."""
UNIX, INET, INET6, NETLINK = 1, 2, 10, 16
SOCK_RAW, SOCK_PACKET, SOCK_TYPE_MASK = 3, 10, 0xF
MAX_FAMILY: Final = 63
TCP, UDP = 6, 17
TIOCSTI, TIOCLINUX = 0x5412, 0x541C


def build() -> bytes:
    """The filter for this machine's architecture, as the kernel takes it.

    Raises:
        MachineError: `executor_unavailable`: libseccomp is missing.
    """
    try:
        import pyseccomp  # noqa: PLC0415 - it loads a C library that may be missing
    except (ImportError, OSError, RuntimeError) as error:
        raise MachineError(
            "executor_unavailable",
            f"libseccomp is missing: {error}",
            hint="apt-get install libseccomp2, or your system's package of that library",
        ) from error
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    deny = pyseccomp.ERRNO(errno.EPERM)
    for name in DENIED:
        _add(rules, deny, name)
    for name in ABSENT:
        _add(rules, pyseccomp.ERRNO(errno.ENOSYS), name)
    for number in NEWER.values():
        _add(rules, deny, number)
    for flag in NAMESPACE_FLAGS[1:]:
        _add(rules, deny, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    for request in (TIOCSTI, TIOCLINUX):
        _add(rules, deny, "ioctl", pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xFFFFFFFF, request))
    _restrict_sockets(pyseccomp, rules, deny)
    with tempfile.TemporaryFile() as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()


def cached(directory: Path) -> Path:
    """A file with the filter, built when it is not there. Rebuilt by every node process: cheaper than knowing when it is stale."""
    path = directory / "seccomp.bpf"
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_bytes(build())
    fresh.replace(path)
    return path


def _restrict_sockets(library: Any, rules: Any, deny: int) -> None:
    """UNIX, TCP, UDP and route netlink only, and pairs of UNIX sockets. vsock above all: no namespace confines it.

    An IP protocol that is not TCP or UDP is one the kernel "does not support": programs that try MPTCP take TCP then, and no module is loaded.
    """
    for family in range(MAX_FAMILY + 1):
        if family not in (UNIX, INET, INET6, NETLINK):
            _add(rules, deny, "socket", library.Arg(0, library.EQ, family))
    # The kernel looks at 32 bits, the filter at 64: larger values are refused as well.
    _add(rules, deny, "socket", library.Arg(0, library.GT, MAX_FAMILY))
    _add(rules, deny, "socketpair", library.Arg(0, library.NE, UNIX))
    _add(rules, deny, "socket", library.Arg(0, library.EQ, NETLINK), library.Arg(2, library.NE, 0))
    for family in (INET, INET6):
        for kind in (SOCK_RAW, SOCK_PACKET):
            raw = library.Arg(1, library.MASKED_EQ, SOCK_TYPE_MASK, kind)
            _add(rules, deny, "socket", library.Arg(0, library.EQ, family), raw)
        unsupported = library.ERRNO(errno.EPROTONOSUPPORT)
        for protocol in range(1, UDP):
            if protocol != TCP:
                exactly = library.Arg(2, library.EQ, protocol)
                _add(rules, unsupported, "socket", library.Arg(0, library.EQ, family), exactly)
        beyond = library.Arg(2, library.GT, UDP)
        _add(rules, unsupported, "socket", library.Arg(0, library.EQ, family), beyond)


def _add(rules: Any, action: int, call: str | int, *arguments: Any) -> None:
    try:
        rules.add_rule(action, call, *arguments)
    except (OSError, ValueError, RuntimeError) as error:
        # Calls this architecture or this libseccomp does not have cannot be made here or are listed in NEWER.
        if arguments:
            raise MachineError("executor_unavailable", f"libseccomp refused the rule for {call}: {error}") from error
