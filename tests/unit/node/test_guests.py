"""Connections of siblings that were let in, while nobody looks after them."""

from __future__ import annotations

import os
import socket

from dms.node.guests import Guests
from dms.node.rolls import Rolls
from dms_actors.directory import Directory
from dms_actors.testing.network import MemoryFabric
from dms_proto.capability import Price, Resources
from dms_proto.ids import AllocationId, BidId, PeerId, RequestId
from dms_proto.market.ledger import Reservation

ME, PEER, CALLER = PeerId("me"), PeerId("peer"), AllocationId("a-caller")
HELD = Reservation(AllocationId("a"), BidId("b"), RequestId("r"), PEER, 0, Resources(), Price(), 0, 1_000)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not read


async def test_of_connections_that_ended_no_descriptor_is_left_however_fast_they_come() -> None:
    guests = Guests(Rolls(ME, MemoryFabric().network(ME), Directory(), lambda _peer: ()), look_s=1_000.0)
    before = open_files()
    for _ in range(50):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            guests.let_in(HELD, CALLER, PEER, ours)
            ours.shutdown(socket.SHUT_RDWR)
    assert open_files() <= before + 1
    await guests.close()
    assert open_files() == before
