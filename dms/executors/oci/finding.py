"""Which container engine of this machine is taken.

A configured socket is the only one tried. Otherwise the first that answers is taken, in this order; whoever can reach the machine's own engine
is root of the machine, so unless `$DOCKER_HOST` names it, it comes last::

    $DOCKER_HOST | $XDG_RUNTIME_DIR/podman/podman.sock | /run/user/UID/podman/podman.sock | $XDG_RUNTIME_DIR/docker.sock
    | /run/user/UID/docker.sock | /run/podman/podman.sock | /run/docker.sock | /var/run/docker.sock
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dms.executors.oci.engine import UNIX, Engine, EngineError, open_engine
from dms_proto.errors import MachineError

NO_ENGINE: Final = "no container engine answers on this machine"
INSTALL_HINT: Final = "install podman and run as this user: systemctl --user enable --now podman.socket; or name a socket in executors.oci_socket"


async def find_engine(sockets: list[str]) -> Engine:
    """The first engine that answers.

    Raises:
        MachineError: `executor_unavailable`: none does; with what each socket said.
    """
    complaints = []
    for socket in sockets:
        if not _is_socket(socket):
            continue
        try:
            return await open_engine(socket)
        except EngineError as error:
            complaints.append(f"{socket}: {error.message}")
    why = f": {'; '.join(complaints)}" if complaints else ""
    raise MachineError("executor_unavailable", f"{NO_ENGINE}{why}", hint=INSTALL_HINT)


def sockets(configured: str, environment: Mapping[str, str], uid: int) -> list[str]:
    """Where an engine may answer, the one to prefer first.

    Args:
        configured: a path, or `unix://PATH`; then nothing else is tried.
        environment: of the node.
        uid: of the node.
    """
    if configured:
        return [configured.removeprefix(UNIX)]
    host = environment.get("DOCKER_HOST", "")
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    candidates = (
        host.removeprefix(UNIX) if host.startswith(UNIX) else "",
        f"{runtime}/podman/podman.sock" if runtime else "",
        f"/run/user/{uid}/podman/podman.sock",
        f"{runtime}/docker.sock" if runtime else "",
        f"/run/user/{uid}/docker.sock",
        "/run/podman/podman.sock",
        "/run/docker.sock",
        "/var/run/docker.sock",
    )
    return list(dict.fromkeys(filter(None, candidates)))


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(Path(path).stat().st_mode)
    except OSError:
        return False
