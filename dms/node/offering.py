"""What the pool takes of the machine, and what the node tells others of its services.

The pool's share is a capability lock of the owner's: the market's ledger knows that it is not free, and the pool may use what is locked and no more.
A service that is offered is a library of the node, by which jobs ask for it and callers find it.
"""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from dms.node.pool import HOLD, share_of
from dms.node.services import Services
from dms_actors.letters import ShowState, Told
from dms_actors.node import NodeState
from dms_actors.runtime import ask_from_loop
from dms_proto.capability import NOTHING, Resources
from dms_proto.ids import PeerId
from dms_proto.market.ledger import Ledger
from dms_proto.market.offer_state import CapabilityMeasured, HoldWished
from dms_proto.membership.machine import Membership
from dms_proto.pool.state import CapacityWished

ASK_S: Final = 10.0
LIBRARY: Final = "service:"
"""Begins the libraries that are services."""
log = logging.getLogger(__name__)


async def take_share(services: Services) -> Resources:
    """Locks what the settings give to the pool, and lets it use that; gives what it has now: nothing while allocations leave too little."""
    pool, ledger = services.config.pool, (await _state(services)).book.ledger
    wanted, held = share_of(pool, ledger.registered), _held(ledger)
    there = {gpu.device for gpu in ledger.registered.gpus}
    for name in pool.gpus:
        if name not in there:
            log.warning("the pool gets no GPU %s: there is none on this machine; there are: %s", name, sorted(there))
    if held != wanted:
        services.node.tell(Told(HoldWished(HOLD, wanted), "pool"))
        held = _held((await _state(services)).book.ledger)
    if held != wanted:
        log.warning("the pool gets nothing of the machine now: the settings give it more than is free")
    await services.calls.wish(CapacityWished(held), "pool")
    return held


async def offer(services: Services) -> None:
    """Tells others which services there are now."""
    capability = (await _state(services)).book.capability
    offered = tuple(LIBRARY + each.name for each in (await services.calls.services()).offered)
    others = tuple(name for name in capability.libraries if not name.startswith(LIBRARY))
    if (libraries := (*others, *offered)) != capability.libraries:
        told = msgspec.structs.replace(capability, libraries=libraries)
        services.node.tell(Told(CapabilityMeasured(told), "services"))


def offered_by(membership: Membership, name: str) -> tuple[PeerId, ...]:
    """The peers that say to offer a service."""
    greeted = ((peer.peer, peer.hello) for peer in membership.greeted())
    return tuple(peer for peer, hello in greeted if hello is not None and LIBRARY + name in hello.summary.libraries)


def _held(ledger: Ledger) -> Resources:
    lock = ledger.locks.get(HOLD)
    return lock.amount if lock is not None else NOTHING


async def _state(services: Services) -> NodeState:
    state: NodeState = await ask_from_loop(services.node, ShowState(), ASK_S)
    return state
