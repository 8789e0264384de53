"""Daemons that tests start."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

START_S: Final = 90.0
END_S: Final = 20
"""Seconds for a daemon to end when asked to."""


def started(root: Path, *command: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A daemon that ends with this process. It starts in `root`, and what it says goes to `log` there.

    Args:
        root: what it keeps.
        command: the daemon.
        environment: of it, beside this process's.
    """
    with (root / "log").open("ab") as log:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root,
            env={**os.environ, **environment},
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a daemon; one that does not end in time is killed."""
    process.terminate()
    try:
        process.wait(timeout=END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until(holds: Callable[[], object], what: str, root: Path) -> None:
    """Returns when something holds of the daemons that were started in `root`."""
    deadline = time.monotonic() + START_S
    while not holds():
        said = (root / "log").read_text(errors="replace")[-2_000:]
        assert time.monotonic() < deadline, f"within {START_S} s it does not hold that {what}: {said}"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
