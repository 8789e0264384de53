"""Real nodes: one is protected by a passphrase and gets a new key; the other knows it as the same node."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dms.config import identity
from dms.devnet.network import DevNet, DevNode, environment
from dms.devnet.topology import NodeSpec
from dms.testing.keyrings import NO_KEYRING
from dms.testing.whole_market import DMS, REQUESTER, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

OTHER = NodeSpec("other", "requester", {"provider.enabled": False})
SECRET = "open sesame"


@pytest.fixture
def net(tmp_path: Path) -> Iterator[DevNet]:
    with DevNet(tmp_path / "market", (REQUESTER, OTHER)) as net:
        yield net


def dms(node: DevNode, *arguments: str) -> str:
    done = subprocess.run(
        [*DMS, *arguments],
        env=environment(node),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def peers(node: DevNode) -> dict[str, Any]:
    return {peer["peer_id"]: peer for peer in json.loads(dms(node, "peers", "list", "--json"))["peers"]}


def children(pid: int) -> Iterator[int]:
    """Every process below one."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from children(int(child))


def test_a_protected_node_gets_a_new_key_and_its_peer_knows_it_as_the_same_node(net: DevNet, tmp_path: Path) -> None:
    node, peer = net["requester"], net["other"]
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    before = identity.read_names(node.home)
    assert before.peer_id in peers(peer)

    dms(node, "identity", "protect", "--passphrase-file", str(secret))
    node.stop()
    settings = node.home.config.read_text()
    node.home.config.write_text(settings.replace("[identity]\n", f'[identity]\npassphrase_file = "{secret}"\n'))
    dms(node, "identity", "rotate")
    after = identity.read_names(node.home)
    node.launch()
    node.wait_ready()

    wait_until(lambda: peers(peer).get(after.peer_id, {}).get("state") == "connected", "the peer has met the new name")
    assert before.peer_id not in peers(peer)
    assert peers(peer)[after.peer_id]["uuid"] == after.uuid == before.uuid

    assert node.process is not None
    for pid in (node.process.pid, *children(node.process.pid)):
        for told in ("environ", "cmdline"):
            assert SECRET.encode() not in Path(f"/proc/{pid}/{told}").read_bytes(), f"process {pid}, {told}"


def test_a_node_whose_passphrase_nobody_gives_does_not_start_and_says_why(net: DevNet, tmp_path: Path) -> None:
    node = net["other"]
    secret = tmp_path / "secret"
    secret.touch(0o600)
    secret.write_text(SECRET)
    dms(node, "identity", "protect", "--passphrase-file", str(secret))
    node.stop()
    command = [*DMS, "up", "--home", str(node.home.root)]
    quiet = {**os.environ, **NO_KEYRING}
    done = subprocess.run(
        command, env=quiet, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60
    )
    assert done.returncode == 2
    assert "is protected by a passphrase" in done.stderr
    assert "identity.passphrase_file" in done.stderr
