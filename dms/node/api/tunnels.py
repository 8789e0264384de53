"""tunnel.*: tunnels into the owner's own jobs."""

from __future__ import annotations

from dms.node.api.base import ASK_S, Base
from dms.rpc.api.tunnels import TunnelEnd, TunnelName, TunnelOpened, TunnelParams
from dms.rpc.ids import check_slot
from dms.rpc.registry import Handover
from dms_actors.letters import ShowState
from dms_actors.runtime import ask_from_loop
from dms_proto.errors import DmsError, UserError
from dms_proto.ids import PeerId, RequestId
from dms_proto.market.auction_state import Auction, Slot, SlotPhase
from dms_proto.messages import Phase
from dms_proto.tunnels import Opening, Target, check_target, read_target


class TunnelGroup(Base):
    """The methods of `dms.rpc.api.tunnels.TunnelMethods`."""

    async def tunnel_open(self, params: TunnelParams) -> Handover:
        """See `TunnelMethods`."""
        slot = await self._running_slot(params.job_id, params.slot, read_target(params.target))
        return await self._led(slot.provider, Opening(slot.allocation_id, params.target))

    async def tunnel_wait(self, params: TunnelName) -> TunnelEnd:
        """See `TunnelMethods`."""
        return TunnelEnd(await self._services.tunnels.get(params.tunnel).wait_over())

    async def _running_slot(self, job_id: str, slot: int, target: Target) -> Slot:
        job = await self._job_id(job_id)
        return _running(job, await self._auction(job), slot, target)

    async def _led(self, provider: PeerId, opening: Opening) -> Handover:
        led = await self._services.tunnels.open(provider, opening)
        opened = TunnelOpened(led.name, opening.allocation_id, provider)
        return Handover(opened, led.tunnel.join, led.tunnel.abort)

    async def _auction(self, job: RequestId) -> Auction:
        address = self._services.orchestrators.get(job)
        if address is None:
            raise _over(job)
        try:
            state: Auction = await ask_from_loop(address, ShowState(), ASK_S)
        except DmsError:
            raise _over(job) from None  # its actor has just ended
        return state


def _running(job: RequestId, auction: Auction, index: int, target: Target) -> Slot:
    """The slot that a caller means, running.

    Raises:
        UserError: `not_found`, `not_running`, `bad_argument`.
    """
    terms = auction.terms
    if terms is None:
        raise _over(job)
    check_target(target, terms.task)
    check_slot(index, len(auction.slots), job)
    slot = auction.slots[index]
    if slot.phase is SlotPhase.HELD and slot.allocation is Phase.RUNNING:
        return slot
    if slot.phase is SlotPhase.DONE:
        raise UserError("not_running", f"slot {index} of job {job} is done", hint=f"dms job show {job}")
    raise UserError(
        "not_running",
        f"slot {index} of job {job} does not run yet",
        hint=f"dms job explain {job}",
        retryable=True,
    )


def _over(job: RequestId) -> UserError:
    return UserError("not_running", f"job {job} is over", hint=f"dms job show {job}")
