"""All groups of methods together. Import `NodeApi` and `METHODS` from `dms.rpc.api`."""

from __future__ import annotations

from typing import Final, Protocol

from dms.rpc.api.accounts import AccountMethods
from dms.rpc.api.allocations import AllocationMethods
from dms.rpc.api.audit import AuditMethods
from dms.rpc.api.data import DataMethods
from dms.rpc.api.events import EventMethods
from dms.rpc.api.execs import ExecMethods
from dms.rpc.api.grants import GrantMethods
from dms.rpc.api.jobs import JobMethods
from dms.rpc.api.market import MarketMethods
from dms.rpc.api.node import NodeMethods
from dms.rpc.api.peers import PeerMethods
from dms.rpc.api.services import ServiceMethods
from dms.rpc.api.tunnels import TunnelMethods
from dms.rpc.registry import Method, methods_of


class NodeApi(
    NodeMethods,
    JobMethods,
    AllocationMethods,
    MarketMethods,
    PeerMethods,
    AccountMethods,
    GrantMethods,
    EventMethods,
    AuditMethods,
    TunnelMethods,
    DataMethods,
    ExecMethods,
    ServiceMethods,
    Protocol,
):
    """What the node answers. Methods run on its asyncio loop and raise `DmsError` for what a caller should know."""


METHODS: Final[dict[str, Method]] = methods_of(NodeApi)
"""Calls by name, feeds by ``feed:`` and topic."""
