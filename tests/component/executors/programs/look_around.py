"""Runs inside the sandbox: tries what a hostile program would, and prints what it found as JSON."""

# ruff: noqa: PTH110, PTH115, PTH123, PTH208 - it looks at the kernel by the plainest means

import ctypes
import errno
import json
import os
import socket
import sys

LIBC = ctypes.CDLL(None, use_errno=True)


def attempt(function, *arguments):
    try:
        function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error.errno))
    return "allowed"


def call(name, *arguments):
    ctypes.set_errno(0)
    result = getattr(LIBC, name)(*arguments)
    return "allowed" if result >= 0 else errno.errorcode.get(ctypes.get_errno(), "?")


def raw(number, *arguments):
    return call("syscall", number, *arguments)


def connect(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(2)
        client.connect(address)


def read(path):
    with open(path, "rb") as file:
        return file.read(100_000).decode(errors="replace")


def readable(path):
    try:
        return read(path)
    except OSError as error:
        return "!" + errno.errorcode.get(error.errno, "?")


def open_for_writing(path):
    os.close(os.open(path, os.O_WRONLY))


def main():
    port, abstract = int(sys.argv[1]), sys.argv[2]
    found = {
        "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()],
        "environ": dict(os.environ),
        "launcher_environ": readable("/proc/1/environ"),
        "launcher_cmdline": readable("/proc/1/cmdline"),
        "fds": {
            name: os.readlink(f"/proc/self/fd/{name}")
            for name in os.listdir("/proc/self/fd")
            if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}")
        },
        "launcher_fds": readable_fds(1),
        "pids": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "root": sorted(os.listdir("/")),
        "etc": sorted(os.listdir("/etc")),
        "home": [
            path
            for path in ("/home", "/root", "/var", "/run", "/sys", "/boot", "/mnt", "/srv", "/opt")
            if os.path.exists(path)
        ],
        "shadow": readable("/etc/shadow"),
        "hostname": socket.gethostname(),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "status": readable("/proc/self/status"),
        "masked": {
            name: readable(f"/proc/{name}")
            for name in ("kallsyms", "keys", "timer_list", "cmdline", "interrupts", "diskstats", "partitions")
        },
        "mounts": readable("/proc/self/mountinfo"),
    }
    found["writes"] = {
        path: attempt(open_for_writing, path)
        for path in (
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/vm/drop_caches",
            "/proc/sysrq-trigger",
            "/usr/bin/env",
            "/etc/passwd",
        )
    }
    found["creates"] = {
        path: attempt(lambda p: open(p, "x").close(), path)
        for path in ("/x", "/usr/x", "/etc/x", "/dev/x", "/proc/x", "/tmp/x", "/dev/shm/x", "/job/x")
    }
    found["connects"] = {
        "loopback": attempt(connect, socket.AF_INET, ("127.0.0.1", port)),
        "other": attempt(connect, socket.AF_INET, ("192.0.2.1", port)),
        "abstract": attempt(connect, socket.AF_UNIX, "\0" + abstract),
    }
    kinds = {
        "inet": (socket.AF_INET, socket.SOCK_STREAM, 0),
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM, 0),
        "route": (socket.AF_NETLINK, socket.SOCK_RAW, 0),
        "raw": (socket.AF_INET, socket.SOCK_RAW, 1),
        "raw6": (socket.AF_INET6, socket.SOCK_RAW, 58),
        "packet": (socket.AF_PACKET, socket.SOCK_RAW, 3),
        "vsock": (socket.AF_VSOCK, socket.SOCK_STREAM, 0),
        "alg": (38, socket.SOCK_SEQPACKET, 0),
        "xdp": (44, socket.SOCK_RAW, 0),
        "audit": (socket.AF_NETLINK, socket.SOCK_RAW, 9),
        "netfilter": (socket.AF_NETLINK, socket.SOCK_RAW, 12),
        "bluetooth": (31, socket.SOCK_RAW, 1),
    }
    found["sockets"] = {name: attempt(lambda k: socket.socket(*k).close(), kind) for name, kind in kinds.items()}
    found["calls"] = {
        "mount": call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
        "umount": call("umount2", b"/job", 2),
        "unshare_user": call("unshare", 0x10000000),
        "unshare_mount": call("unshare", 0x20000),
        "unshare_time": call("unshare", 0x80),
        "clone_user": raw_clone(0x10000000),
        "setns": call("setns", 0, 0),
        "ptrace": call("ptrace", 0, 0, 0, 0),
        "chroot": call("chroot", b"/tmp"),
        "pivot_root": raw(155, b"/tmp", b"/tmp"),
        "bpf": raw(321, 0, 0, 0),
        "perf": raw(298, 0, 0, -1, -1, 0),
        "keyctl": raw(250, 0, 0, 0, 0, 0),
        "add_key": raw(248, b"user", b"x", b"y", 1, -3),
        "userfaultfd": raw(323, 0),
        "io_uring": raw(425, 4, ctypes.create_string_buffer(256)),
        "clone3": raw(435, 0, 0),
        "open_by_handle": raw(304, -1, 0, 0),
        "name_to_handle": raw(303, -100, b"/usr", 0, 0, 0),
        "process_vm_readv": raw(310, os.getpid(), 0, 0, 0, 0, 0),
        "pidfd_getfd": raw(438, 0, 0, 0),
        "fsopen": raw(430, b"tmpfs", 0),
        "open_tree": raw(428, -100, b"/", 1),
        "move_mount": raw(429, 0, b"", 0, b"", 0),
        "mount_setattr": raw(442, 0, b"", 0, 0, 0),
        "kexec": raw(246, 0, 0, 0, 0),
        "init_module": raw(175, 0, 0, b""),
        "reboot": raw(169, 0, 0, 0, 0),
        "swapon": raw(167, b"/job/x", 0),
        "sethostname": raw(170, b"x", 1),
        "settime": raw(227, 0, 0),
        "syslog": raw(103, 3, 0, 0),
        "quotactl": raw(179, 0, 0, 0, 0),
        "tiocsti": call("ioctl", 0, 0x5412, b"x"),
        "tiocsti_high_bits": call("ioctl", 0, ctypes.c_ulong(0x100005412), b"x"),
    }
    json.dump(found, sys.stdout)


def raw_clone(flags):
    """A child by the clone call itself, so that the flags are seen by the filter."""
    result = LIBC.syscall(56, flags | 17, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    return "allowed" if result > 0 else errno.errorcode.get(ctypes.get_errno(), "?")


def readable_fds(pid):
    try:
        return {name: os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")}
    except OSError as error:
        return "!" + errno.errorcode.get(error.errno, "?")


main()
