"""Container engines of the tests' own: a Docker or podman that touches neither the machine's engine nor its network, and an image for it.

Each keeps all it has below one directory, and ends with the test run. Root's run in a network and a mount namespace of their own. A plain user's can
only be podman, rootless, and runs where the tests do, which are apart themselves then (`rootless`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from dms.executors.oci import probe_image
from dms.executors.oci.engine import EngineError, Facts, open_engine
from dms.testing import registry
from dms.testing.daemons import end, free_ports

ENGINES: Final = ("docker", "podman") if os.geteuid() == 0 else ("podman",)
"""Those that this user can start."""
_NEEDED: Final = {"docker": ("dockerd", "containerd", "runc"), "podman": ("podman", "conmon", "runc", "catatonit")}
SECOND_RUNTIME: Final = "second"
"""What Docker calls runc beside its own name."""
START_S: Final = 30.0
PROGRAMS: Final = tuple(
    f"/bin/{name}"
    for name in (
        *("sh", "cat", "sleep", "true", "id", "stat", "ls", "wc", "mkdir", "chmod", "touch", "ln", "mkfifo", "dd"),
        *("head", "tail", "env", "sha256sum", "mktemp", "rm", "mount", "df"),
    )
)
"""What the tests' image holds, with libraries."""


def lacks(engine: str) -> str:
    """Why no such engine can be started here, or ""."""
    if engine not in ENGINES:
        return f"starting {engine} needs root here"
    apart = ("unshare", "ip") if os.geteuid() == 0 else ("newuidmap",)
    missing = [program for program in (*_NEEDED[engine], *apart, "setpriv") if shutil.which(program) is None]
    return f"{engine} cannot be started: there is no {', '.join(missing)}" if missing else ""


@contextmanager
def running_engine(engine: str, registry_address: str = "", beside: Sequence[str] = ()) -> Iterator[str]:
    """An engine for a while; gives the path of its socket. Skips where none can be started.

    Args:
        engine: "docker" or "podman".
        registry_address: of a registry on loopback, spoken to without TLS.
        beside: a command that runs in the same network namespace, for a registry.
    """
    if lack := lacks(engine):
        pytest.skip(lack)
    root = Path(tempfile.mkdtemp(prefix=f"dms-{engine}-"))
    socket = root / "engine.sock"
    log = (root / "log").open("wb")
    known = f'[[registry]]\nlocation = "{registry_address}"\ninsecure = true\n' if registry_address else ""
    (root / "registries.conf").write_text(known)
    script = f"{_beside(beside)} exec {' '.join(_command(engine, root, socket))}"
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "TERM", *_apart(script)],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=root,  # podman's helper leaves marks where it is
        env={**os.environ, "TMPDIR": str(root), "CONTAINERS_REGISTRIES_CONF": f"{root}/registries.conf"},
        start_new_session=True,
    )
    try:
        _wait_ready(process, socket, root / "log")
        yield str(socket)
    finally:
        _end(process)
        log.close()
        shutil.rmtree(root, ignore_errors=True)


class Reached(NamedTuple):
    """An engine, and a registry that it can reach."""

    socket: str
    address: str
    image: str


@contextmanager
def engine_and_registry(engine: str, directory: Path, layer: bytes, spoil: str = "''") -> Iterator[Reached]:
    """An engine for a while, with a registry that has one image.

    Args:
        engine: "docker" or "podman".
        directory: empty, for what the registry needs.
        layer: the image's only layer.
        spoil: how the registry is not honest (`registry`).
    """
    (directory / "layer.tar").write_bytes(layer)
    told = directory / "told"
    (port,) = free_ports(1)  # of this network, which is also free in one of the engine's own
    beside = [sys.executable, registry.__file__, str(directory / "layer.tar"), str(told), spoil, str(port)]
    address = f"127.0.0.1:{port}"
    with running_engine(engine, address, beside) as socket:
        deadline = time.monotonic() + START_S
        while not told.exists():
            assert time.monotonic() < deadline, "the registry does not start"
            time.sleep(0.01)
        yield Reached(socket, address, f"{address}/lab/tool@{told.read_text()}")


def facts_at(socket: str) -> Facts:
    """What an engine says of itself.

    Raises:
        EngineError: none answers there.
    """

    async def ask() -> Facts:
        engine = await open_engine(socket)
        await engine.close()
        return engine.facts

    return asyncio.run(ask())


def with_python() -> bytes:
    """A root file system with the tests' programs and the machine's own Python. Skips where there is none below /usr."""
    python = Path("/usr/bin/python3")
    if not python.exists():
        pytest.skip("no python3 below /usr to run inside")
    asked = [str(python), "-c", "import sys; print(sys.version_info.minor)"]
    version = subprocess.run(asked, capture_output=True, text=True, check=True)
    library = Path(f"/usr/lib/python3.{version.stdout.strip()}")
    modules = [path for path in library.rglob("*.py") if path.is_file() and "test" not in path.parts]
    loaded = [str(path) for path in library.rglob("*.so")]
    return probe_image.archive([*PROGRAMS, str(python), *loaded], modules)


def add_image(socket: str, name: str = "localhost/dms-test", root: bytes | None = None) -> str:
    """Makes an image of this machine's programs, or of another root file system; gives its id."""

    async def add() -> str:
        engine = await open_engine(socket)
        try:
            await engine.add_image(probe_image.archive(PROGRAMS) if root is None else root, name)
            image = await engine.image(name)
            assert image is not None
            return image.id
        finally:
            await engine.close()

    return asyncio.run(add())


def _command(engine: str, root: Path, socket: Path) -> list[str]:
    if engine == "docker":
        places = ["--data-root", f"{root}/data", "--exec-root", f"{root}/exec", "-p", f"{root}/pid"]
        quiet = ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none"]
        second = ["--add-runtime", f"{SECOND_RUNTIME}={shutil.which('runc')}"]
        return ["dockerd", "-H", f"unix://{socket}", *places, *quiet, *second]
    places = ["--root", f"{root}/data", "--runroot", f"{root}/run", "--tmpdir", str(root / "temporary")]
    how = [
        "--runtime",
        "runc",
        "--cgroup-manager",
        "cgroupfs",
        "--storage-driver",
        "overlay",
        "--events-backend",
        "file",
    ]
    return ["podman", *places, *how, "system", "service", "--time=0", f"unix://{socket}"]


def _apart(script: str) -> list[str]:
    """A shell script, away from the machine's mounts and network where that takes no more than root."""
    if os.geteuid() != 0:
        return ["sh", "-c", script]
    # The namespace of mounts is not shared, but what the tests mount on the host is seen in it.
    return ["unshare", "--net", "--mount", "sh", "-c", f"mount --make-rslave /; ip link set lo up; {script}"]


def _beside(command: Sequence[str]) -> str:
    return f"{' '.join(command)} &" if command else ""


def _wait_ready(process: subprocess.Popen[bytes], socket: Path, log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.skip(f"the container engine does not start here: {_last_line(log)}")
        if socket.is_socket() and _answers(socket):
            return
        time.sleep(0.05)
    raise AssertionError(f"the container engine does not answer: {_last_line(log)}")


def _answers(socket: Path) -> bool:
    try:
        facts_at(str(socket))
    except EngineError:
        return False
    return True


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Its session: what runs beside it, and what it has started, ends too."""
    end(process)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
