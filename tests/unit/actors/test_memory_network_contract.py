"""The part of the contract of `Network` that is about tunnels, on its in-memory twin."""

from __future__ import annotations

import os

from dms.testing.tunnel_contract import TunnelContract
from dms_actors.ports import Network
from dms_actors.testing.network import MemoryFabric
from dms_proto.wire import Signer


class TestMemoryNetwork(TunnelContract):
    """Several on one fabric."""

    def setup_method(self) -> None:
        self.fabric = MemoryFabric()

    def make(self) -> Network:
        return self.fabric.network(Signer(os.urandom(32)).peer_id, self.topic)
