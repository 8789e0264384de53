"""tunnel.*: bytes both ways between a program here and what runs in one of this node's allocations."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from dms.rpc.registry import method
from dms_proto.ids import AllocationId, PeerId
from dms_proto.rules import Slot


class TunnelParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """To what a tunnel shall lead.

    Attributes:
        job_id: the job's request id, or a unique beginning of it.
        target: a port that the job declares, on its own loopback: "port:8080"; or "call": what takes calls of Python functions.
        slot: index of the allocation. Where results are checked, several run copies of one piece of work.
    """

    job_id: str
    target: Annotated[str, msgspec.Meta(max_length=256)]
    slot: Slot = 0


class TunnelOpened(msgspec.Struct, frozen=True):
    """A tunnel. From the byte after this answer on, the connection is it.

    Attributes:
        tunnel: its name, for tunnel.wait.
        allocation_id: to what it leads.
        provider: the node where that runs.
    """

    tunnel: str
    allocation_id: AllocationId
    provider: PeerId


class TunnelName(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tunnel.

    Attributes:
        tunnel: its name, from tunnel.open.
    """

    tunnel: str


class TunnelEnd(msgspec.Struct, frozen=True):
    """How a tunnel ended.

    Attributes:
        why: why it was cut; empty when both sides had ended theirs.
    """

    why: str


class TunnelMethods(Protocol):
    """Tunnels into this node's own allocations, here or elsewhere."""

    @method("tunnel.open", mutates=True, hands_over=True)
    async def tunnel_open(self, params: TunnelParams) -> TunnelOpened:
        """Opens a tunnel to what runs in one of this node's jobs. After the answer the connection carries its bytes, both ways, and no more calls.

        On the Unix socket only, by itself and not in a batch; send nothing before the answer. Each direction ends by itself (`shutdown`). Nobody
        is told on the connection why it ended: tunnel.wait tells, on another one.
        """
        ...

    @method("tunnel.wait")
    async def tunnel_wait(self, params: TunnelName) -> TunnelEnd:
        """Waits until a tunnel is over, and says why."""
        ...
