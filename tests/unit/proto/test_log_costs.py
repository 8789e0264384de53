"""Who pays for what is written."""

from __future__ import annotations

from dms_proto.ids import PeerId, digest_of
from dms_proto.log_costs import payer
from dms_proto.market.offer_state import BidOpened
from dms_proto.messages import Pricing
from dms_proto.sim.provider import Provider, request


def test_a_list_of_seals_is_paid_for_by_who_closed_it() -> None:
    provider = Provider()
    sealed = provider.seals(request(pricing=Pricing.SECOND_PRICE), requester="a")
    provider.is_closed(sealed, *(digest_of(bytes([number])) for number in range(63)), requester="a")
    (opened,) = provider.events
    assert isinstance(opened, BidOpened)
    assert payer(opened) == PeerId("a")
