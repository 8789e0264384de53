"""`dms up` where it cannot: a home in use, a port in use, a store that is newer or damaged. It says what is wrong and touches nothing."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dms.devnet.network import DevNode, free_ports
from dms.store.migrations import LATEST
from dms.testing.whole_market import DMS, REQUESTER, first_line

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevNode]:
    """Onboarded, and not running."""
    (port,) = free_ports(1)
    node = DevNode(REQUESTER, tmp_path_factory.mktemp("market"), port)
    node.onboard((), measure=False)
    yield node
    node.stop()


@contextmanager
def running(node: DevNode) -> Iterator[None]:
    node.launch()
    try:
        node.wait_ready()
        yield
    finally:
        node.stop()


def up(node: DevNode, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`dms up`, which ends at once where it is refused."""
    env = {**os.environ, "DMS_HOME": str(node.home.root), **variables}
    return subprocess.run(
        [*DMS, "up", *options],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    """The command lines of every Python that is started from now on."""
    seen = tmp_path / "seen"
    code = f"import sys\nwith open({str(seen)!r}, 'a') as seen: print(*sys.orig_argv, file=seen)\n"
    (tmp_path / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return seen.read_text


def store_files(node: DevNode) -> dict[str, str]:
    """What the store holds: the file and its write-ahead log. (The -shm file is scratch memory, the lock names who opened it last.)"""
    files = (node.home.events, node.home.events.with_name("events.db-wal"))
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.exists() and path.stat().st_size
    }


def check_refused(node: DevNode, code: str, *words: str, **variables: str) -> None:
    """In the foreground and in the background it says why, and what to do."""
    told = json.loads(up(node, "--json", **variables).stdout)["error"]
    assert told["code"] == code
    for word in words:
        assert word in told["message"]
    detached = up(node, "-d", **variables)
    assert detached.returncode == 1
    assert told["message"] in detached.stderr
    assert told["hint"] in detached.stderr


def test_a_second_node_on_a_home_is_refused_and_the_first_goes_on(
    node: DevNode, request: pytest.FixtureRequest
) -> None:
    with running(node):
        assert node.process is not None
        pid = str(node.process.pid)
        programs = request.getfixturevalue("programs")
        refused = up(node)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == (
            f"dms: {node.home.root} is in use by process {pid}\n  stop that node first (`dms down`), or use another home\n"
        )
        assert "dms.node up" in programs()
        assert "dms.net" not in programs(), "libp2p is not loaded for nothing"
        again = up(node, "-d")
        assert (again.returncode, again.stderr) == (0, "")
        assert f"already running, pid {pid}" in again.stdout
        with node.client() as client:
            assert client.call("node.status")["state"] == "running"


def test_of_two_nodes_started_on_a_home_at_once_one_runs(node: DevNode) -> None:
    env = {**os.environ, "DMS_HOME": str(node.home.root)}
    two = [
        subprocess.Popen([*DMS, "up", "--json"], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(2)
    ]
    try:
        said = [json.loads(first_line(process)) for process in two]
        for process, line in zip(two, said, strict=True):
            if "ready" in line:  # the other is ending by itself
                process.terminate()
            process.communicate(timeout=60)
    finally:
        for process in two:
            process.kill()
            process.communicate()
    (refused,) = [line["error"] for line in said if "error" in line]
    assert refused["code"] == "home_in_use"
    assert sum("ready" in line for line in said) == 1
    assert sorted(process.returncode for process in two) == [0, 1], (
        "told to stop, a node stops in order, however new it is"
    )


def test_a_port_in_use_is_named(node: DevNode) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", node.port))
        taken.listen()
        check_refused(node, "port_in_use", f"/ip4/127.0.0.1/tcp/{node.port}")


def test_what_is_no_home_of_a_node_is_refused_before_libp2p_is_loaded(
    node: DevNode, programs: Callable[[], str], tmp_path: Path
) -> None:
    told = json.loads(up(node, "--json", DMS_HOME=str(tmp_path / "nothing")).stdout)["error"]
    assert told["code"] == "not_onboarded"
    assert "dms.net" not in programs()


def test_a_home_that_others_can_look_into_is_refused(node: DevNode) -> None:
    node.home.root.chmod(0o755)
    try:
        check_refused(node, "bad_config", "has mode 0755", str(node.home.root))
    finally:
        node.home.root.chmod(0o700)


@pytest.mark.parametrize("name", ["token", "token.read"])
def test_a_token_that_others_can_read_is_refused(node: DevNode, name: str) -> None:
    path = node.home.root / name
    path.write_text("t" * 43)
    path.chmod(0o644)
    check_refused(node, "bad_config", "has mode 0644", str(path), DMS_RPC_HTTP="true", DMS_RPC_PORT="0")
    path.unlink()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_http_beyond_loopback_without_tls_is_refused(node: DevNode, host: str) -> None:
    check_refused(node, "unsafe_bind", host, "TLS", DMS_RPC_HTTP="true", DMS_RPC_HOST=host)


def test_http_without_a_token_is_refused(node: DevNode) -> None:
    node.home.token.unlink(missing_ok=True)
    node.home.token.touch(mode=0o600)
    check_refused(node, "bad_config", "holds no token", DMS_RPC_HTTP="true", DMS_RPC_PORT="0")
    node.home.token.unlink()


def newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {LATEST + 1}")


def scribbled_over(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))


def something_else(path: Path) -> None:
    path.write_bytes(b"this is no database\n" * 400)


@pytest.mark.parametrize(
    ("spoil", "code", "word"),
    [
        (newer, "store_newer", f"schema version {LATEST + 1}"),
        (scribbled_over, "store_corrupt", "malformed"),
        (something_else, "store_corrupt", "not a SQLite file"),
    ],
)
def test_a_store_that_is_newer_or_damaged_is_refused_and_kept(
    node: DevNode, spoil: Callable[[Path], None], code: str, word: str
) -> None:
    sound = {path: path.read_bytes() for path in node.home.root.glob("events.db*")}
    spoil(node.home.events)
    spoilt = store_files(node)
    try:
        check_refused(node, code, word, str(node.home.events))
        assert store_files(node) == spoilt
    finally:
        for path in node.home.root.glob("events.db*"):
            path.unlink()
        for path, content in sound.items():
            path.write_bytes(content)
