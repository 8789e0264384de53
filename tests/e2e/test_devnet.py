"""`dms devnet` as a person starts it: it says what happens to its nodes, and leaves none behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dms.config.paths import Home
from dms.rpc.client import Client

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]


def pid_of(home: str) -> int:
    with Client(Home(Path(home)).socket) as client:
        return int(client.call("node.status")["pid"])


@pytest.mark.timeout(120)
def test_a_node_that_dies_is_named_and_none_outlives_the_terminal(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dms.devnet", "--dir", str(tmp_path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as devnet:
        assert devnet.stdout is not None
        assert devnet.stderr is not None
        homes = json.loads(devnet.stdout.readline())["homes"]
        nodes = {name: psutil.Process(pid_of(home)) for name, home in homes.items()}

        again = subprocess.run(command, capture_output=True, text=True, check=False)
        os.kill(nodes["provider-1"].pid, signal.SIGKILL)
        said = devnet.stderr.readline()
        devnet.send_signal(signal.SIGHUP)

        assert devnet.wait() == 0
        assert said.startswith("provider-1 has ended (killed by SIGKILL)")
        assert homes["provider-1"] in said
        assert again.returncode == 1
        assert again.stderr.startswith("dms devnet: bootstrap did not start:")
        assert "[home_in_use]" in again.stderr
        assert [name for name, node in nodes.items() if node.is_running()] == []


@pytest.mark.timeout(120)
def test_what_it_says_is_read_through_a_pipe_while_it_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dms.devnet", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as devnet:
        assert devnet.stdout is not None
        said: list[str] = []
        while not said or said[-1] not in {"", "ctrl-C closes it\n"}:
            said.append(devnet.stdout.readline())
        running = devnet.poll() is None
        devnet.send_signal(signal.SIGINT)

        assert devnet.wait() == 0
        assert running
        assert f"  export DMS_HOME={tmp_path / 'requester'}\n" in said
