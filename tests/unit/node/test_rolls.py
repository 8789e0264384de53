"""What a requester says of a job that cannot say who its allocations are."""

from __future__ import annotations

import pytest

from dms.node.rolls import Rolls
from dms_actors.directory import Directory
from dms_actors.mailbox import Inbox, Mailbox
from dms_actors.runtime import ThreadAddress
from dms_actors.testing.network import MemoryFabric
from dms_proto.errors import DmsError
from dms_proto.ids import AllocationId, PeerId, request_id
from dms_proto.tunnels import FINAL, refused

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
