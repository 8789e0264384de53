"""The launcher: a small process that starts sandboxes for the node and outlives it.

It exists for three reasons. Forking a 60 MB multi-threaded node to drop root and join cgroups would be slow and unsafe; forking this one is neither.
When the node is killed, somebody must still end runs whose wall time is over. And what a sandbox leaves behind needs a parent that reaps it.

It runs as `python -I -S launcher_main.py FD NODE_PID OUTLIVES`, uses the standard library only, and has one thread. Messages are JSON objects with
file descriptors on sockets of the kind SOCK_SEQPACKET:

``{"op": "spare"}``   node to launcher: fork a process that joins a cgroup and waits for its order on a socket of its own. To join a cgroup the kernel
                      may have to wait for all processors, 10 ms and more on a busy machine: that is done before a job needs it.
*the order*           node to spare: become this sandbox.
``{"op": "claim"}``   node to launcher: that spare is a run now, with this status file and deadline.

When the node's end closes, spares end, and the launcher stays until its last run is over; with OUTLIVES 0 it ends the runs. Everything it needs to
know about a run lies in the run's status file: a first line written here, then bubblewrap's own JSON lines.
"""

import array
import contextlib
import ctypes
import fcntl
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
CLONE_NEWNS = 0x20000
SYS_CLOSE_RANGE, CLOSE_RANGE_CLOEXEC = 436, 4
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
MNT_DETACH = 2
MOUNT_ROOT = "/run/dms"
"""Where a root launcher, in a mount namespace of its own, makes directories reachable for a job's user who may not walk to them: /root, say, is
0700."""
MAX_MOUNTS = 16
MAX_MESSAGE = 1 << 20
MAX_FDS = 32
FIRST_FREE_FD = 64
LONGEST_SLEEP_MS = 3_600_000
"""poll refuses longer ones than fit a C integer; and the clock may be set meanwhile."""
MAX_EARLY = 1000
"""So many ends are remembered for a claim that is still on its way."""
ORDER_FD = 3
STATUS_FD = 3
"""Place of the status file among the descriptors of a run: after stdin, stdout and stderr."""

LIBC = ctypes.CDLL(None, use_errno=True)
RESET_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""Ignored here, by us or by Python, and therefore by whatever is executed, unless reset."""

NO_PID = 1 << 30

Run = dict[str, int]
Request = dict[str, Any]


class Children:
    """Every process this one has to wait for.

    Attributes:
        spares: wait for their order.
        runs: became the outer process of a sandbox, which was claimed.
        inner: first processes inside sandboxes whose outer process has ended, killed and not yet reaped.
        early: ended before anybody claimed them.
    """

    def __init__(self) -> None:
        self.spares: set[int] = set()
        self.runs: dict[int, Run] = {}
        self.inner: dict[int, Run] = {}
        self.early: dict[int, resource.struct_rusage] = {}

    def any_left(self) -> bool:
        """Whether there is still something to wait for."""
        return bool(self.spares or self.runs or self.inner)


def main(control: socket.socket, node: int, *, outlives: bool) -> None:
    """Serves until the node is gone and no run is left.

    Args:
        control: the node is at its other end.
        node: process id.
        outlives: whether runs go on without the node, until their wall time is over.
    """
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.geteuid() == 0:
        _prepare_mounts()
    gc.disable()  # what is garbage here dies by reference count, and a collection touches pages that a fork then has to copy
    gc.freeze()
    wake_r, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for signum in RESET_SIGNALS:
        signal.signal(signum, signal.SIG_IGN)
    signal.set_wakeup_fd(wake_w)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(wake_r, select.POLLIN)
    children = Children()
    serving = True
    while serving or children.any_left():
        for fd, _ in poll.poll(None if serving else _until_deadline(children.runs)):
            if fd == wake_r:
                with contextlib.suppress(BlockingIOError):
                    os.read(wake_r, 4096)
            elif not _serve(control, children, node):
                poll.unregister(control)
                serving = False
                if not outlives:
                    _end_now(children.runs)
        _reap(children)
        if not serving:
            _end_overdue(children.runs)
            _end_strays(children)


def _serve(control: socket.socket, children: Children, node: int) -> bool:
    """Does what one message asks. False: the node's end is closed."""
    try:
        data, fds = receive(control)
    except ConnectionError:
        return False
    if not data:
        return False
    request = json.loads(data)
    try:
        if os.getppid() != node:  # it died with this request on its way; the next node may have swept already
            return False
        if request["op"] == "claim":
            _claim(children, request, os.dup(fds[0]))
            return True
        pid = os.fork()
        if pid == 0:
            control.close()
            _be_spare(fds)
        children.spares.add(pid)
        _answer(control, {"id": request["id"], "pid": pid}, [os.pidfd_open(pid)])
    except OSError as error:
        if request["op"] == "spare":
            _answer(control, {"id": request["id"], "error": str(error)}, [])
    finally:
        for fd in fds:
            os.close(fd)
    return True


def _claim(children: Children, request: Request, status: int) -> None:
    pid = request["pid"]
    run = {"status": status, "deadline_ms": request["deadline_ms"], "meter": request["meter"]}
    if pid in children.spares:
        children.spares.discard(pid)
        children.runs[pid] = run
    else:
        children.early.pop(pid, None)
        _end_sandbox(children, run, children.early)


def receive(control: socket.socket) -> tuple[bytes, list[int]]:
    """One message. Not `socket.recv_fds`: it drops the flag that keeps descriptors from leaking into jobs."""
    data, ancillary, _, _ = control.recvmsg(MAX_MESSAGE, socket.CMSG_SPACE(4 * MAX_FDS), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return data, list(fds)


def _answer(control: socket.socket, reply: dict[str, object], fds: list[int]) -> None:
    try:
        with contextlib.suppress(ConnectionError):  # a node that died meanwhile is noticed by the next receive
            socket.send_fds(control, [json.dumps(reply).encode()], fds)
    finally:
        for fd in fds:
            os.close(fd)


def _be_spare(fds: list[int]) -> None:
    """In the child: joins the groups, waits for the order on the first descriptor, becomes the sandbox. Never returns."""
    code = 0
    try:
        signal.set_wakeup_fd(-1)
        for fd in fds[1:]:
            os.write(fd, b"0")
        if os.geteuid() == 0:
            _check(LIBC.unshare(CLONE_NEWNS), "unshare")
        os.umask(0o022)
        os.chdir("/")
        for signum in RESET_SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        os.dup2(fds[0], ORDER_FD, inheritable=False)
        LIBC.syscall(SYS_CLOSE_RANGE, ORDER_FD + 1, ctypes.c_uint(-1), 0)
        order = socket.socket(fileno=ORDER_FD)
        data, received = receive(order)
        poll = select.poll()
        poll.register(order, 0)
        if data and not poll.poll(
            0
        ):  # else the node died, perhaps with this order on its way: the next one may have swept already
            _become_sandbox(json.loads(data), received)
    except BaseException as error:  # noqa: BLE001 - the child must not run on into the launcher's loop, whatever happened
        os.write(2, f"spare: {error}\n".encode())
        code = 1
    os._exit(code)


def _become_sandbox(request: Request, fds: list[int]) -> None:
    """Gives up root and becomes bubblewrap. Never returns."""
    try:
        line = request["record"]
        line["monitor"] = os.getpid()
        os.write(fds[STATUS_FD], json.dumps(line).encode() + b"\n")
        for number, value in request["rlimits"]:
            _, hard = resource.getrlimit(number)
            capped = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (capped, capped))
        if uid := request["uid"]:
            for number, path in enumerate(request["mounts"]):
                _mount(os.fsencode(path), f"{MOUNT_ROOT}/{number}", None, MS_BIND | MS_REC)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        _place(fds)
        os.execve(request["argv"][0], request["argv"], {})  # noqa: S606 - no shell is the point
    except BaseException as error:  # noqa: BLE001 - as above
        os.write(fds[2], f"launcher: {error}\n".encode())
    os._exit(125)


def _place(fds: list[int]) -> None:
    """Puts the descriptors at 0, 1, 2, …, inheritable; all others close at exec, which each should anyway."""
    for target, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD) for fd in fds]):
        os.dup2(fd, target)
    LIBC.syscall(SYS_CLOSE_RANGE, len(fds), ctypes.c_uint(-1), CLOSE_RANGE_CLOEXEC)


def _reap(children: Children) -> None:
    """Collects whatever ended. When bubblewrap is gone, what is left of its sandbox is killed and waited for as well."""
    ended = dict(_ended_children())
    for pid in [pid for pid in ended if pid in children.runs]:
        del ended[pid]
        _end_sandbox(children, children.runs.pop(pid), ended)
    for pid, usage in ended.items():
        if pid in children.inner:
            _report_usage(children.inner.pop(pid), usage)
        else:
            children.spares.discard(pid)
            children.early[pid] = usage
    while len(children.early) > MAX_EARLY:
        del children.early[next(iter(children.early))]


def _end_sandbox(children: Children, run: Run, ended: dict[int, resource.struct_rusage]) -> None:
    """The outer process has ended: ends the inside, which is among `ended` or by now our child."""
    pid = _inner_pid(run["status"])
    if pid in ended:
        _report_usage(run, ended.pop(pid))
    elif _is_our_child(pid):
        children.inner[pid] = run
        os.kill(pid, signal.SIGKILL)
    else:
        os.close(run["status"])


def _end_strays(children: Children) -> None:
    """Without a node nobody gives orders or claims any more: kills the children that are neither claimed runs nor already dying."""
    known = children.runs.keys() | children.inner.keys()
    with contextlib.suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123 - pathlib would double this process
        for pid in map(int, file.read().split()):
            if pid not in known:
                os.kill(pid, signal.SIGKILL)


def _ended_children() -> Iterator[tuple[int, resource.struct_rusage]]:
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            yield pid, usage


def _is_our_child(pid: int) -> bool:
    """Whether it is, and so the number certainly the one of that process, since only we could free it."""
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _report_usage(run: Run, usage: resource.struct_rusage) -> None:
    """What the sandbox used, for a node that has no better meter: its first process has waited for all others by now."""
    if run["meter"]:
        cpu_us = int((usage.ru_utime + usage.ru_stime) * 1e6)
        os.write(run["status"], json.dumps({"cpu-us": cpu_us, "max-rss": usage.ru_maxrss * 1024}).encode() + b"\n")
    os.close(run["status"])


def _inner_pid(status: int) -> int:
    """The first process inside, as bubblewrap reported it, or a number no process has."""
    head, found, tail = os.pread(status, 65536, 0).partition(b'"child-pid": ')
    digits = tail.partition(b",")[0].strip(b" }\n")
    return int(digits) if found and head.endswith(b"{ ") and digits.isdigit() else NO_PID


def _told_deadline_ms(status: int) -> int:
    """When a run that stood still for a while is overdue, as the last node that froze or thawed it has said; 0: none has."""
    end = os.fstat(status).st_size
    _, found, tail = os.pread(status, 4096, max(0, end - 4096)).rpartition(b'"deadline-ms": ')
    digits = tail.partition(b"}")[0].strip()
    return int(digits) if found and digits.isdigit() else 0


def _until_deadline(runs: dict[int, Run]) -> int | None:
    if not runs:
        return None
    remaining_ms = min(run["deadline_ms"] for run in runs.values()) - int(time.time() * 1000)
    return min(max(0, remaining_ms), LONGEST_SLEEP_MS) + 1


def _end_overdue(runs: dict[int, Run]) -> None:
    """Without a node nobody else watches the clock. bubblewrap is killed; `_reap` then finds and kills the inside."""
    now_ms = int(time.time() * 1000)
    for pid, run in runs.items():
        if run["deadline_ms"] <= now_ms:
            run["deadline_ms"] = max(run["deadline_ms"], _told_deadline_ms(run["status"]))
        if run["deadline_ms"] <= now_ms:
            run["deadline_ms"] = sys.maxsize
            os.write(run["status"], b'{"overdue": true}\n')
            os.kill(pid, signal.SIGKILL)


def _end_now(runs: dict[int, Run]) -> None:
    """Their time is over."""
    for run in runs.values():
        run["deadline_ms"] = 0


def _prepare_mounts() -> None:
    _check(LIBC.unshare(CLONE_NEWNS), "unshare")
    _mount(b"none", "/", None, MS_REC | MS_SLAVE)
    os.makedirs(MOUNT_ROOT, 0o755, exist_ok=True)  # noqa: PTH103 - pathlib would double this process
    _mount(b"none", MOUNT_ROOT, b"tmpfs", 0)
    # bubblewrap reads the list of mounts for each mount it makes. Groups are joined by descriptors, so nothing below /sys is needed here.
    LIBC.umount2(b"/sys", MNT_DETACH)
    for number in range(MAX_MOUNTS):
        os.mkdir(f"{MOUNT_ROOT}/{number}", 0o755)  # noqa: PTH102 - as above


def _mount(source: bytes, target: str, kind: bytes | None, flags: int) -> None:
    _check(LIBC.mount(source, target.encode(), kind, ctypes.c_ulong(flags), b"mode=0755" if kind else None), target)


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    control_fd = int(sys.argv[1])
    os.set_inheritable(control_fd, False)
    main(socket.socket(fileno=control_fd), int(sys.argv[2]), outlives=sys.argv[3] == "1")
