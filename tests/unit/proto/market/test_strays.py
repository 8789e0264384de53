"""Messages about what is not known here get the answer that lets their sender go on."""

import pytest

from dms_proto.accounts.book import Accounts, charge
from dms_proto.capability import Price
from dms_proto.ids import AllocationId, PeerId, allocation_id, bid_id
from dms_proto.market import strays
from dms_proto.market.offer_judgement import MAX_SLOTS
from dms_proto.messages import (
    AllocationStatus,
    Bid,
    Cancel,
    CommitAck,
    CommitRefusal,
    CommitRefused,
    Decline,
    Invocation,
    InvocationAck,
    Message,
    Phase,
    Receipt,
    Release,
)
from dms_proto.sim.requester import BUSY, OFFER, REQUEST
from dms_proto.work import Ending, EndReason, Task, Usage

BID = bid_id(REQUEST, PeerId("p"), 0)
ONE, TWO = AllocationId("a-1"), AllocationId("a-2")
ENDED = Ending(EndReason.COMPLETED, 0, usage=Usage(wall_ms=5))


@pytest.mark.parametrize(
    ("message", "answers"),
    [
        (Bid(REQUEST, 0, 0, BID, OFFER, 1, Price(), 0, 0, 0), [Release(REQUEST, BID)]),
        (CommitAck(REQUEST, BID, (ONE, TWO)), [Cancel(REQUEST, ONE), Cancel(REQUEST, TWO)]),
        (AllocationStatus(REQUEST, ONE, 2, Phase.RUNNING), [Cancel(REQUEST, ONE)]),
        (
            AllocationStatus(REQUEST, ONE, 4, Phase.ENDED, ENDED.usage, ENDED, price=9),
            [Receipt(REQUEST, ONE, EndReason.PROVIDER_LOST, Usage(), 0)],
        ),
        (Invocation(REQUEST, ONE, Task("sandbox")), [InvocationAck(REQUEST, ONE, "no such allocation here")]),
        (Decline(REQUEST, 0, BUSY), []),
        (CommitRefused(REQUEST, BID, CommitRefusal.EXPIRED), []),
        (Cancel(REQUEST, ONE), []),
        (Receipt(REQUEST, ONE, EndReason.COMPLETED, Usage(), 0), []),
    ],
    ids=lambda part: type(part).__name__,
)
def test_a_stray_is_answered_so_that_its_sender_can_go_on(message: Message, answers: list[Message]) -> None:
    sent = strays.answer(PeerId("p"), message, Accounts(PeerId("me")))

    assert [send.message for send in sent] == answers
    assert {send.peer for send in sent} <= {"p"}


def test_a_receipt_that_was_lost_is_given_again_with_the_price_that_was_accepted() -> None:
    accounts, status = (
        Accounts(PeerId("me")),
        AllocationStatus(REQUEST, ONE, 4, Phase.ENDED, ENDED.usage, ENDED, price=9),
    )
    for booked in charge(PeerId("p"), REQUEST, ONE, 7):
        accounts = accounts.post(booked.entry)

    (to_provider,) = strays.answer(PeerId("p"), status, accounts, is_as_heard=True)
    (of_another,) = strays.answer(PeerId("p"), status, accounts)
    (to_another,) = strays.answer(PeerId("q"), status, accounts)

    assert to_provider.message == Receipt(REQUEST, ONE, EndReason.COMPLETED, ENDED.usage, 7)
    assert of_another.message == Receipt(REQUEST, ONE, EndReason.PROVIDER_LOST, Usage(), 7)
    assert to_another.message == Receipt(REQUEST, ONE, EndReason.PROVIDER_LOST, Usage(), 0)


def test_a_lost_receipt_is_given_again_to_a_provider_that_has_a_new_name() -> None:
    old, new = PeerId("old"), PeerId("new")
    status = AllocationStatus(REQUEST, ONE, 4, Phase.ENDED, ENDED.usage, ENDED, price=9)
    (booked,) = charge(old, REQUEST, ONE, 7)
    accounts = Accounts(PeerId("me")).post(booked.entry).inherit(old, new)

    (sent,) = strays.answer(new, status, accounts)

    assert isinstance(sent.message, Receipt)
    assert sent.message.price == 7


def test_an_acknowledgement_of_thousands_is_answered_for_as_many_as_a_bid_has_slots() -> None:
    named = tuple(allocation_id(BID, slot) for slot in range(8_500))
    sent = strays.answer(PeerId("p"), CommitAck(REQUEST, BID, named), Accounts(PeerId("me")))
    assert [send.message for send in sent] == [Cancel(REQUEST, id_) for id_ in named[:MAX_SLOTS]]
