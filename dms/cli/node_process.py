"""Starting `python -m dms.node`: in place of this process, in the background, or for one answer."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from dms_proto.errors import DmsError, InternalError, MachineError

if TYPE_CHECKING:
    from dms.config.paths import Home
    from dms.rpc.client import Client

READY_TIMEOUT_S: Final = 20.0
POLL_S: Final = 0.05
TAIL_LINES: Final = 5
STARTUP_LOG: Final = "startup.log"
"""In the home's log directory: what a node that runs in the background writes before it logs."""
# -P: the working directory must not come before our own modules on the path.
PYTHON: Final = (sys.executable, "-P", "-m")


def command(verb: str, home: Home, *options: str) -> list[str]:
    """The command line of `python -m dms.node VERB`."""
    return [*PYTHON, "dms.node", verb, "--home", str(home.root), *options]


def become(arguments: Sequence[str]) -> NoReturn:
    """Goes on as another program, which gets our terminal and our signals."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(arguments[0], list(arguments))  # noqa: S606 - our own interpreter and modules


def answer(arguments: Sequence[str]) -> bytes:
    """Runs a command to its end and gives its standard output; its standard error is ours.

    Raises:
        InternalError: it ended without output.
    """
    done = subprocess.run(list(arguments), stdout=subprocess.PIPE, check=False)
    if not done.stdout.strip():
        raise InternalError("internal", f"{' '.join(arguments[3:5])} gave no answer (exit code {done.returncode})")
    return done.stdout


def is_detached(home: Home, pid: int) -> bool:
    """Whether `start_detached` has started the node: nobody else watches over it."""
    try:
        return Path(f"/proc/{pid}/fd/1").samefile(home.log / STARTUP_LOG)
    except OSError:
        return False


def restart_detached(home: Home, node: Client, grace_s: float) -> None:
    """Stops a node that runs in the background and starts it again as it was started, with the options and the environment that it had.

    Raises:
        MachineError: `home_in_use`: it does not end; `node_not_running`: it does not start again.
    """
    from dms.rpc.api.node import StateChange, StopParams  # noqa: PLC0415

    pid = int(node.call("rpc.ping")["pid"])
    words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    pairs = (pair.partition(b"=") for pair in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if pair)
    environment = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    options = [os.fsdecode(word) for word in words[len(command("up", home)) :]]
    node.call("node.stop", StopParams(0), StateChange)
    wait_gone(home, pid, grace_s)
    start_detached(home, options, environment)


def start_detached(home: Home, options: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> int:
    """Starts the node in the background and waits until it answers; gives its process id.

    Raises:
        MachineError: `node_not_running`: it ended or did not answer; the end of its log is in the message.
    """
    home.log.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = home.log / STARTUP_LOG
    with log.open("wb") as output:
        # Its own session: closing this terminal, or ctrl-C in it, does not reach the node.
        process = subprocess.Popen(
            command("up", home, *options),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=environment,
        )
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise MachineError("node_not_running", f"the node ended at once: {_tail(log)}", hint="dms doctor")
        if is_ready(home):
            return process.pid
        time.sleep(POLL_S)
    raise MachineError(
        "node_not_running", f"the node does not answer after {READY_TIMEOUT_S:.0f} s: {_tail(log)}", hint=f"see {log}"
    )


def is_ready(home: Home) -> bool:
    """Whether a node answers on this home's socket."""
    from dms.rpc.client import Client  # noqa: PLC0415 - only where a node may be running

    try:
        with Client(home.socket, timeout=2) as node:
            node.call("rpc.ping")
    except DmsError:
        return False
    return True


def wait_gone(home: Home, pid: int, timeout: float) -> None:
    """Waits until the node's process has ended: only then is its store closed and can another node start on this home.

    Raises:
        MachineError: `home_in_use`: it is still there.
    """
    deadline = time.monotonic() + timeout
    while home.socket.exists() or (pid != os.getpid() and is_alive(pid)):
        if time.monotonic() > deadline:
            raise MachineError(
                "home_in_use",
                f"the node, process {pid}, is still there after {timeout:.0f} s",
                hint=f"see {home.node_log}",
            )
        time.sleep(POLL_S)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that ended and was not yet collected by its parent does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def run_module(module: str, arguments: Sequence[str]) -> NoReturn:
    """Goes on as `python -m MODULE`."""
    become([*PYTHON, module, *arguments])


def _tail(log: Path) -> str:
    """The end of a log in one line."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "; ".join(line.strip().removeprefix("dms: ") for line in lines[-TAIL_LINES:]) or "it wrote nothing"
