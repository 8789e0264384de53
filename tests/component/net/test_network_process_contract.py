"""The contract of `Network` on the real thing: two or three network processes on loopback."""

from __future__ import annotations

import os

import pytest

from dms.net.client import NetworkProcess
from dms.net.config import NetConfig
from dms.testing.network_contract import NetworkContract
from dms.testing.tunnel_contract import TunnelContract
from dms_actors.ports import Network


@pytest.mark.libp2p
@pytest.mark.slow
class TestNetworkProcess(NetworkContract, TunnelContract):
    """libp2p in its own process."""

    def make(self) -> Network:
        return NetworkProcess(
            NetConfig(private_key=os.urandom(32), listen=("/ip4/127.0.0.1/tcp/0",), topics=(self.topic,))
        )
