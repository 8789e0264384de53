"""Runs inside the sandbox: one attack after the other, each in a process of its own. Prints what each of them saw as JSON.

An attack returns a word for what it got; an `OSError` is the word for its number. Beside it stands what it may see: anything else is a hole.
"""

# ruff: noqa: PTH115, PTH118, PTH123, PTH208, PTH211 - it looks at the kernel by the plainest means

import ctypes
import errno
import json
import mmap
import os
import platform
import resource
import signal
import socket
import stat
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
REFUSED = ("EPERM",)
ABSENT = ("ENOSYS",)
X86_64 = platform.machine() == "x86_64"
X32_BIT = 0x40000000
MARKER = os.environ.get("MARKER", "")
"""Stands in the node's environment, in its home's path and in a file it holds open, and here in the attacks only."""
NODE = int(os.environ.get("NODE", "0"))
ATTACKS = {}


def attack(*allowed, only=True):
    """Enters a function into the table, with what it may see."""

    def enter(function):
        if only:
            ATTACKS[function.__name__] = (function, allowed)
        return function

    return enter


def libc(name, *arguments):
    ctypes.set_errno(0)
    if getattr(LIBC, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
    return "done"


def call(number, *arguments):
    return libc("syscall", number, *arguments)


def read(path):
    with open(path, "rb") as file:
        return file.read(1 << 20)


def shows_marker(data):
    return "the node's" if MARKER.encode() in data else "nothing"


# ------------------------------------------------------------------------------------------------------------ who is the job


@attack("10000 10000 none")
def is_root():
    capabilities = {line.split()[1] for line in read("/proc/self/status").decode().splitlines() if line[:3] == "Cap"}
    return f"{os.getuid()} {os.getgid()} {'none' if capabilities == {'0' * 16} else capabilities}"


@attack("EINVAL")  # there is no such user inside
def become_root():
    os.setuid(0)


@attack("EPERM")
def drop_the_users_groups():
    os.setgroups([])


@attack("1")
def gain_privileges_by_a_set_uid_program():
    return next(
        line.split()[1] for line in read("/proc/self/status").decode().splitlines() if line.startswith("NoNewPrivs")
    )


# ------------------------------------------------------------------------------------------- what it learns of the launcher


@attack("nothing")
def environment_of_the_launcher():
    return shows_marker(read("/proc/1/environ")) if read("/proc/1/environ").strip(b"\0") else "nothing"


@attack("nothing")
def arguments_of_the_launcher():
    return shows_marker(read("/proc/1/cmdline"))


@attack("nothing")
def descriptors_of_the_launcher():
    links = [os.readlink(f"/proc/1/fd/{name}") for name in os.listdir("/proc/1/fd")]
    return (
        "nothing"
        if all(link == "/dev/null" or "runs/" in link or link.startswith(("pipe:", "anon_inode:")) for link in links)
        else str(links)
    )


@attack("nothing")
def inherited_descriptors():
    paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd") if int(name) > 2]
    links = [os.readlink(path) for path in paths if os.path.lexists(path)]  # the listing's own is closed by now
    return str([link for link in links if not link.startswith("pipe:")] or "nothing")


@attack("HOME LANG MARKER NODE PATH PORT PWD")
def environment_of_the_node():
    return " ".join(sorted(set(os.environ) - {"LC_CTYPE"}))  # which Python sets itself


@attack("1 2")
def other_processes():
    return " ".join(sorted(name for name in os.listdir("/proc") if name.isdigit() and int(name) < 3))


# -------------------------------------------------------------------------------------------------- reaching other processes


@attack("ESRCH")
def signal_the_node():
    os.kill(NODE, signal.SIGTERM)


@attack("ESRCH")
def hold_the_node():
    os.pidfd_open(NODE)


@attack(*REFUSED)
def trace_the_node():
    libc("ptrace", 16, NODE, 0, 0)


@attack(*REFUSED)
def trace_its_own_launcher():
    libc("ptrace", 16, 1, 0, 0)


@attack(*REFUSED, only=X86_64)
def read_memory_of_the_launcher():
    call(310, 1, 0, 0, 0, 0, 0)


@attack(*REFUSED)
def take_a_descriptor_of_the_launcher():
    call(438, os.pidfd_open(1), 0, 0)


@attack(*REFUSED, only=X86_64)
def compare_kernel_objects():
    call(312, 1, os.getpid(), 0, 0, 0)


@attack("EACCES", "EPERM")
def run_before_others():
    os.setpriority(os.PRIO_PROCESS, 0, -5)


@attack(*REFUSED)
def run_in_real_time():
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


@attack("EACCES", "EPERM")
def never_be_killed_for_memory():
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("-1000")


@attack("refused")
def raise_a_limit():
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError:
        return "refused"


# ---------------------------------------------------------------------------------------------------------------- namespaces


def unshares(name, flag):
    def unshare():
        return libc("unshare", flag)

    unshare.__name__ = f"unshare_{name}"
    attack(*REFUSED)(unshare)


for _name, _flag in (
    ("user", 0x10000000),
    ("mounts", 0x20000),
    ("processes", 0x20000000),
    ("network", 0x40000000),
    ("cgroups", 0x2000000),
    ("time", 0x80),
):
    unshares(_name, _flag)


@attack(*REFUSED, only=X86_64)
def clone_into_a_user_namespace():
    if LIBC.syscall(56, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
        os._exit(0)
    raise OSError(ctypes.get_errno(), "clone")


@attack(*ABSENT)
def clone3_whose_flags_no_filter_sees():
    call(435, 0, 0)


@attack(*REFUSED)
def enter_a_namespace():
    libc("setns", os.open("/proc/1/ns/mnt", os.O_RDONLY), 0)


@attack("killed by SIGSYS", only=X86_64)
def trace_by_the_numbers_of_x32():
    call(X32_BIT | 521, 16, 1, 0, 0)


@attack("killed by SIGSYS", "killed by SIGSEGV", only=X86_64)
def trace_by_the_gate_for_32_bits():
    code = b"\x53\xb8\x1a\x00\x00\x00\x31\xdb\x31\xc9\xcd\x80\x5b\xc3"  # eax = 26 (ptrace there), int 0x80
    page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    return f"answered {function()}"


# ----------------------------------------------------------------------------------------------------- parts of the kernel


def calls(name, allowed, number, *arguments):
    def invoke():
        return call(number, *arguments)

    invoke.__name__ = name
    attack(*allowed, only=X86_64)(invoke)


for _attack in (
    ("load_a_bpf_program", REFUSED, 321, 0, 0, 0),
    ("watch_the_processor", REFUSED, 298, 0, 0, -1, -1, 0),
    ("ask_through_io_uring", ABSENT, 425, 4, ctypes.create_string_buffer(256)),
    ("handle_page_faults", REFUSED, 323, 0),
    ("read_a_keyring", REFUSED, 250, 0, -3, 0, 0, 0),
    ("add_a_key", REFUSED, 248, b"user", b"x", b"y", 1, -3),
    ("request_a_key", REFUSED, 249, b"user", b"x", 0, -3),
    ("watch_file_systems", REFUSED, 300, 0, 0),
    ("open_by_handle", REFUSED, 304, -1, 0, 0),
    ("name_to_handle", REFUSED, 303, -100, b"/usr", 0, 0, 0),
    ("mount", REFUSED, 165, b"none", b"/tmp", b"tmpfs", 0, 0),
    ("unmount", REFUSED, 166, b"/proc/sys", 2),
    ("open_a_file_system", REFUSED, 430, b"tmpfs", 0),
    ("clone_a_mount", REFUSED, 428, -100, b"/", 1),
    ("move_a_mount", REFUSED, 429, 0, b"", 0, b"", 0),
    ("change_a_mount", REFUSED, 442, 0, b"", 0, 0, 0),
    ("list_mounts", REFUSED, 458, 0, 0, 0, 0),
    ("pivot_root", REFUSED, 155, b"/tmp", b"/tmp"),
    ("chroot", REFUSED, 161, b"/tmp"),
    ("load_a_kernel", REFUSED, 246, 0, 0, 0, 0),
    ("load_a_module", REFUSED, 175, 0, 0, b""),
    ("reboot", REFUSED, 169, 0, 0, 0, 0),
    ("swap_on_a_file", REFUSED, 167, b"/job/x", 0),
    ("account_to_a_file", REFUSED, 163, b"/job/x"),
    ("set_quotas", REFUSED, 179, 0, 0, 0, 0),
    ("read_the_kernels_log", REFUSED, 103, 3, 0, 0),
    ("set_the_clock", REFUSED, 227, 0, 0),
    ("rename_the_host", REFUSED, 170, b"x", 1),
    ("switch_randomness_off", REFUSED, 135, 0x0040000),
    ("reach_ports", REFUSED, 172, 3),
    ("bind_memory", REFUSED, 237, 0, 0, 0, 0, 0, 0),
):
    calls(*_attack)


# --------------------------------------------------------------------------------------------------------------- terminal


@attack(*REFUSED)
def type_into_the_terminal():
    libc("ioctl", 0, 0x5412, b"x")


@attack(*REFUSED)
def type_into_the_terminal_by_a_wider_number():
    libc("ioctl", 0, ctypes.c_ulong(0x100005412), b"x")


@attack("ENXIO")
def open_the_nodes_terminal():
    os.open("/dev/tty", os.O_RDWR)


# ---------------------------------------------------------------------------------------------------------------- network


def sockets(name, allowed, make, *kind):
    def connect():
        for end in make(*kind) if make is socket.socketpair else (make(*kind),):
            end.close()
        return "a socket"

    connect.__name__ = name
    attack(*allowed)(connect)


_ODD = ("EPROTONOSUPPORT",)
_RAW = (*REFUSED, *_ODD)
for _socket in (
    ("reach_the_hypervisor", REFUSED, socket.socket, socket.AF_VSOCK, socket.SOCK_STREAM, 0),
    ("reach_the_hypervisor_by_a_pair", REFUSED, socket.socketpair, socket.AF_VSOCK, socket.SOCK_STREAM, 0),
    ("see_packets", REFUSED, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 3),
    ("forge_packets", _RAW, socket.socket, socket.AF_INET, socket.SOCK_RAW, 255),
    ("forge_packets_of_6", _RAW, socket.socket, socket.AF_INET6, socket.SOCK_RAW, 58),
    ("forge_packets_with_flags", _RAW, socket.socket, socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 255),
    ("load_the_sctp_module", _ODD, socket.socket, socket.AF_INET, socket.SOCK_STREAM, 132),
    ("load_the_dccp_module_by_6", _ODD, socket.socket, socket.AF_INET6, 6, 33),
    ("speak_mptcp", _ODD, socket.socket, socket.AF_INET, socket.SOCK_STREAM, 262),
    ("ping", _ODD, socket.socket, socket.AF_INET, socket.SOCK_DGRAM, 1),
    ("load_the_tipc_module_by_a_pair", REFUSED, socket.socketpair, 30, socket.SOCK_STREAM, 0),
    ("use_the_kernels_ciphers", REFUSED, socket.socket, 38, socket.SOCK_SEQPACKET, 0),
    ("hear_audit", REFUSED, socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 9),
    ("change_the_firewall", REFUSED, socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 12),
    ("use_bluetooth", REFUSED, socket.socket, 31, socket.SOCK_RAW, 1),
    ("forge_tcp", REFUSED, socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP),
    ("map_a_network_card", REFUSED, socket.socket, 44, socket.SOCK_RAW, 0),
):
    sockets(*_socket)


for _socket in (
    ("tcp", socket.socket, socket.AF_INET, socket.SOCK_STREAM, 0),
    ("tcp_by_number", socket.socket, socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 6),
    ("udp_by_number", socket.socket, socket.AF_INET, socket.SOCK_DGRAM, 17),
    ("unix", socket.socket, socket.AF_UNIX, socket.SOCK_STREAM, 0),
    ("a_pair", socket.socketpair, socket.AF_UNIX, socket.SOCK_SEQPACKET, 0),
    ("routes", socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 0),
):
    sockets(f"harmless_{_socket[0]}", ("a socket",), *_socket[1:])


@attack("ECONNREFUSED")
def connect_to_an_abstract_socket_of_the_host():
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + MARKER)
    return "connected"


@attack("ECONNREFUSED", "ENETUNREACH")
def connect_to_the_hosts_loopback():
    with socket.socket() as client:
        client.connect(("127.0.0.1", int(os.environ["PORT"])))
    return "connected"


@attack("ENETUNREACH")
def connect_to_the_world():
    with socket.socket() as client:
        client.connect(("192.0.2.1", 80))
    return "connected"


# ------------------------------------------------------------------------------------------------------------------ files


@attack("[]")
def write_kernel_settings():
    return str([path for path in files_below("/proc/sys") if can_write(path)][:5])


@attack("[]")
def write_other_files_of_proc():
    names = (f"/proc/{name}" for name in os.listdir("/proc") if not name.isdigit())
    return str([path for path in names if stat.S_ISREG(os.lstat(path).st_mode) and can_write(path)])


def masks(name):
    def look():
        return "content" if read(f"/proc/{name}") else "empty"

    look.__name__ = f"read_proc_{name}"
    attack("empty", "EACCES", "EPERM", "ENOENT")(look)


for _name in ("kallsyms", "kcore", "keys", "kmsg", "timer_list", "cmdline", "interrupts", "diskstats", "partitions"):
    masks(_name)


@attack("ENOENT")
def list_sys():
    os.listdir("/sys")


@attack("/")
def find_its_own_cgroup():
    return " ".join(
        sorted({line.rpartition(":")[2] for line in read("/proc/self/cgroup").decode().split("\n") if line})
    )


@attack("none")
def find_cgroup_files():
    kinds = {line.split(" - ")[1].split()[0] for line in read("/proc/self/mountinfo").decode().splitlines()}
    return str(kinds & {"cgroup", "cgroup2", "sysfs", "debugfs", "tracefs", "securityfs", "bpf"} or "none")


@attack("dev etc job proc tmp usr")
def files_of_the_host():
    return " ".join(sorted(set(os.listdir("/")) - {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}))


@attack("nothing")
def settings_of_the_host():
    made_up = {"alternatives", "group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd"}
    return " ".join(sorted(set(os.listdir("/etc")) - made_up)) or "nothing"


@attack("lo", "")
def interfaces_of_the_host():
    return " ".join(name for _, name in socket.if_nameindex())


@attack("job")
def name_of_the_host():
    return socket.gethostname()


@attack("none")
def devices_of_the_host():
    harmless = "console core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero"
    return str(set(os.listdir("/dev")) - set(harmless.split()) or "none")


@attack(*REFUSED)
def make_a_device():
    os.mknod("/job/disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))


@attack("EXDEV", "EPERM", "EROFS")
def link_a_file_of_the_host():
    os.link("/usr/bin/env", "/job/env")


@attack("ENOENT")
def read_passwords():
    read("/etc/shadow")


@attack("/dev/shm /tmp /job")
def write_anywhere():
    places = ("/", "/usr", "/etc", "/dev", "/dev/shm", "/dev/pts", "/proc", "/tmp", "/job")
    return " ".join(place for place in places if can_make(f"{place}/made"))


@attack("ENOSPC")
def fill_memory_by_tmp():
    fill("/tmp/big")


@attack("ENOSPC")
def fill_memory_by_shm():
    fill("/dev/shm/big")


@attack("left")
def leave_traps_among_the_outputs():
    os.symlink("/etc/passwd", "/job/out.link")
    os.symlink("/etc", "/job/out.directory")
    os.mkfifo("/job/out.pipe")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind("/job/out.socket")
    with open("/job/out.file", "w") as file:
        file.write("harmless")
    os.link("/job/out.file", "/job/out.hard")
    return "left"


def files_below(top):
    for directory, _, names in os.walk(top):
        yield from (os.path.join(directory, name) for name in names)


def can_write(path):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def can_make(path):
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
    except OSError:
        return False
    return True


def fill(path):
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 65 << 20)
    return "65 MiB"


# ------------------------------------------------------------------------------------------------------------------ the run


def tried(function):
    """What one attack saw; in a child, since some are to be killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            seen = function() or "done"
        except OSError as error:
            seen = errno.errorcode.get(error.errno, str(error.errno))
        os.write(writing, seen.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        seen = file.read().decode()
    _, status = os.waitpid(child, 0)
    return seen or f"killed by {signal.Signals(os.WTERMSIG(status)).name}"


if __name__ == "__main__":
    json.dump({name: tried(function) for name, (function, _) in ATTACKS.items()}, sys.stdout)
