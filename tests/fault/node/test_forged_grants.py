"""Whoever shows grants that are none costs a node few verifications, whatever kind of message they come with."""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec
import pytest

from dms.testing import samples
from dms.testing.guest import Guest
from dms.testing.honest_pair import HonestPair
from dms.testing.seeded_world import TTL_MS
from dms.trust.grant import issue, read_grant
from dms_actors.grant_reading import OF_PEER
from dms_actors.letters import Told
from dms_proto.grants.access import Access
from dms_proto.grants.rights import Rights
from dms_proto.ids import PUBLIC_KEY_BYTES, MessageId, grant_id, request_id
from dms_proto.market.offer_state import PolicyWished
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.messages import AllocationMessage, AnyMessage, BidRequest, Hello, Revocation
from dms_proto.units import SECOND
from dms_proto.wire import seal

pytestmark = pytest.mark.usefixtures("quiet")
TIMES = 40


def forged(pair: HonestPair) -> bytes:
    """It names the provider as its issuer, as anybody can; only a check of its signatures shows that it is not."""
    return pair.provider.signer.public_key + issue(os.urandom(32), Rights())[PUBLIC_KEY_BYTES:]


def question(number: int) -> AnyMessage:
    asked = next(sample for sample in samples.FULL if isinstance(sample, AllocationMessage))
    return msgspec.structs.replace(asked, channel="want:stdout", offset=number, data=b"")


def request(number: int) -> AnyMessage:
    asked = next(sample for sample in samples.FULL if isinstance(sample, BidRequest))
    return msgspec.structs.replace(asked, request_id=request_id(number.to_bytes(16, "big")))


def show(pair: HonestPair, guest: Guest, message: AnyMessage) -> None:
    """Says something with a forged grant."""
    id_, to = MessageId(os.urandom(16)), pair.provider.signer.peer_id
    frame = seal(guest.signer, message, id=id_, sent=pair.now, ttl_ms=TTL_MS, to=to, auth=forged(pair))
    guest.say_bytes(pair.provider, frame)


def tell_revocations(pair: HonestPair, guest: Guest) -> None:
    """Each rests on a forged grant."""
    told = [Revocation(grant_id(os.urandom(64)), guest.peer, 0, os.urandom(64), forged(pair)) for _ in range(TIMES)]
    guest.say(pair.provider, guest.hello(revoked=tuple(told)))


@pytest.mark.parametrize("what", [question, request])
def test_few_are_verified_that_come_with_messages(what: Callable[[int], AnyMessage]) -> None:
    pair = HonestPair()
    own = (pair.requester.signer.peer_id,)
    pair.provider.node.tell(Told(PolicyWished(ProviderPolicy(access=Access.AUTHORISED, own_peers=own)), "test"))
    guest = pair.guest()
    before = read_grant.cache_info().misses
    for number in range(TIMES):
        show(pair, guest, what(number))
        pair.pass_time(1)
    assert OF_PEER.burst <= read_grant.cache_info().misses - before <= OF_PEER.burst + 1
    assert pair.works()


def test_few_are_verified_on_which_revocations_are_said_to_rest() -> None:
    pair = HonestPair()
    guest = pair.guest()
    before = read_grant.cache_info().misses
    tell_revocations(pair, guest)
    pair.pass_time(SECOND)
    assert isinstance(guest.heard[0], Hello)
    assert OF_PEER.burst <= read_grant.cache_info().misses - before <= OF_PEER.burst + 1
