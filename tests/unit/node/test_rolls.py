"""What a requester says of a job that cannot say who its allocations are, and what a provider keeps of what it is told."""

from __future__ import annotations

import msgspec
import pytest

from dms.node.rolls import MAX_ROLL, MOST_KNOWN, Rolls
from dms_actors.directory import Directory
from dms_actors.mailbox import Inbox, Mailbox
from dms_actors.runtime import ThreadAddress
from dms_actors.testing.network import MemoryFabric
from dms_proto.errors import DmsError
from dms_proto.ids import AllocationId, PeerId, request_id
from dms_proto.siblings import MOST_ADDRESSES, MOST_WAYS, Roll, Sibling
from dms_proto.tunnels import FINAL, refused
from dms_proto.units import MIB
from dms_proto.untrusted import read_msgpack

ME, PROVIDER = PeerId("me"), PeerId("provider")
JOB = request_id(bytes(16))


@pytest.mark.parametrize("is_ended", [False, True])
async def test_a_job_that_cannot_say_who_is_on_its_roll_takes_nobody_off_it(*, is_ended: bool) -> None:
    """As while its node stops, or has more to do than it can."""
    mailbox = Mailbox(Inbox(), None, 0)
    if is_ended:
        mailbox.close()
    requests = Directory()
    requests.add(JOB, ThreadAddress("job", mailbox))
    rolls = Rolls(ME, MemoryFabric().network(ME), requests, lambda _peer: ())
    with pytest.raises(DmsError) as caught:
        await rolls.tell(PROVIDER, JOB, AllocationId("a"))
    assert refused(caught.value.code, caught.value.message).code not in FINAL


def test_what_strangers_can_make_a_provider_keep_is_little() -> None:
    """A requester writes whatever passes, and lets job after job run."""
    allocation, peer = AllocationId("a-" + "a" * 26), PeerId("12D3KooW" + "a" * 44)
    crowd = (Sibling(index, allocation, peer, ("x" * 256,) * MOST_ADDRESSES) for index in range(MOST_WAYS + 1))
    largest = msgspec.msgpack.encode(Roll(tuple(crowd)))
    assert read_msgpack(largest, Roll).siblings
    assert len(largest) <= MAX_ROLL
    assert len(largest) * MOST_KNOWN < 48 * MIB
