"""job.exec, alloc.exec: commands run beside what runs in an allocation, inside its sandbox.

After the answer the connection carries frames: one byte that says of what kind it is, four bytes of big-endian length, and so many bytes.

====  ==========  =========  ==================================================
kind  name        says       body
====  ==========  =========  ==================================================
0     input       caller     bytes for the command
1     input_end   caller     nothing: there are no more
2     size        caller     rows and columns of the terminal, two bytes each
3     signal      caller     number of SIGHUP, SIGINT, SIGQUIT or SIGTERM, a byte
4     output      command    bytes
5     errors      command    bytes, where it has no terminal
6     exit        command    its exit code, a byte; the last frame
====  ==========  =========  ==================================================

A caller that goes away has its command ended: SIGHUP, and SIGKILL two seconds later.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from dms.rpc.api.tunnels import TunnelOpened
from dms.rpc.registry import method
from dms_proto.rules import Slot
from dms_proto.tunnels import Order


class JobExecParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command to be run beside a job of this node.

    Attributes:
        job_id: the job's request id, or a unique beginning of it.
        order: which command, and the terminal it gets.
        slot: index of the allocation.
    """

    job_id: str
    order: Order
    slot: Slot = 0


class AllocationExecParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A command to be run beside an allocation.

    Attributes:
        allocation_id: its id, or a unique beginning of it; its whole id with a peer.
        order: which command, and the terminal it gets.
        peer: the node that runs it for another, and lets this one in: its name, or the beginning or end of its PeerID. Empty: this node asked for it,
            or runs it.
    """

    allocation_id: str
    order: Order
    peer: str = ""


class ExecMethods(Protocol):
    """Commands beside what runs in an allocation, where its job lets them: field `exec` of a task."""

    @method("job.exec", mutates=True, hands_over=True)
    async def job_exec(self, params: JobExecParams) -> TunnelOpened:
        """Runs a command beside one of this node's jobs, with all that the job has and no more. On the Unix socket only, as tunnel.open."""
        ...

    @method("alloc.exec", mutates=True, hands_over=True)
    async def alloc_exec(self, params: AllocationExecParams) -> TunnelOpened:
        """Runs a command beside an allocation: of this node; or of another that has allowed it, where this node has the right `exec`."""
        ...
