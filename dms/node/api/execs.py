"""job.exec, alloc.exec: commands beside what runs in an allocation."""

from __future__ import annotations

from dms.node.api.base import whole_allocation_id
from dms.node.api.tunnels import TunnelGroup
from dms.node.api.views import phase_of
from dms.node.projecting.tables import text
from dms.rpc.api.execs import AllocationExecParams, JobExecParams
from dms.rpc.registry import Handover
from dms_proto.errors import UserError
from dms_proto.grants.rights import EXEC
from dms_proto.ids import AllocationId, PeerId, short
from dms_proto.messages import Phase
from dms_proto.tunnels import Opening, ToCommand, write_target


class ExecGroup(TunnelGroup):
    """The methods of `dms.rpc.api.execs.ExecMethods`."""

    async def job_exec(self, params: JobExecParams) -> Handover:
        """See `ExecMethods`."""
        target = ToCommand(params.order)
        slot = await self._running_slot(params.job_id, params.slot, target)
        return await self._led(slot.provider, Opening(slot.allocation_id, write_target(target), params.order))

    async def alloc_exec(self, params: AllocationExecParams) -> Handover:
        """See `ExecMethods`."""
        target = write_target(ToCommand(params.order))
        if params.peer:
            peer = self._peer(params.peer, await self._state())
            grant = self._services.wallet.shown_to(peer, (EXEC,))
            return await self._led(
                peer, Opening(whole_allocation_id(params.allocation_id), target, params.order, grant)
            )
        row = await self._allocation(params.allocation_id)
        id_ = AllocationId(text(row, "allocation_id"))
        if phase_of(row) is Phase.ENDED:
            raise UserError("not_running", f"{short(id_)} is over", hint=f"dms alloc show {short(id_)}")
        provider = PeerId(text(row, "provider")) if row["requested"] else self._me
        return await self._led(provider, Opening(id_, target, params.order))
