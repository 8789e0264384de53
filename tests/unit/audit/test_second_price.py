"""A file about a second price: the price follows from the list that was closed before the bids were open, or is named."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dms.audit.faults import FaultCode
from dms.audit.verify import verify
from dms.testing.audit_story import BID, JOB, NEEDS, Story
from dms.testing.samples import NOW, PROVIDER, REQUESTER, STRANGER
from dms_proto import ids
from dms_proto.machine import Event
from dms_proto.market.agreement import agreement_on, receipt_for, terms_digest
from dms_proto.market.auction_events import RequestOpened
from dms_proto.market.offer_seals import sealed
from dms_proto.market.second_price import award_between, rival_from, seal_of
from dms_proto.messages import Award, Bid, Closing, Pricing

MOST = 100
MINE: Bid = msgspec.structs.replace(BID, salt=b"m" * 32)
OTHER: Bid = msgspec.structs.replace(
    BID,
    bid_id=ids.bid_id(JOB, STRANGER.peer_id, 0),
    price=50,
    tariff=msgspec.structs.replace(BID.tariff, start=50),
    salt=b"o" * 32,
)
LISTED = tuple(sorted((seal_of(MINE, PROVIDER.peer_id), seal_of(OTHER, STRANGER.peer_id))))
FAIR = award_between(MINE, PROVIDER.peer_id, (STRANGER.peer_id, OTHER), MOST)


class Sealed(Story):
    """The same job for a second price: sealed, closed, opened, awarded."""

    def __init__(self, award: Award | None = FAIR, *, is_agreed: bool = True) -> None:
        super().__init__()
        self.messages |= {
            "request": msgspec.structs.replace(self.messages["request"], pricing=Pricing.SECOND_PRICE),
            "sealed": sealed(MINE, PROVIDER.peer_id, MOST),
            "closing": Closing(JOB, 0, LISTED),
            "bid": MINE,
        }
        agreed = terms_digest(agreement_on(MINE, NEEDS, REQUESTER.peer_id, PROVIDER.peer_id, (0,), award=award))
        self.change("commit", award=award, terms=agreed)
        if is_agreed:
            self.change("ack", terms=agreed)
        paid = min(award.price if award is not None else BID.price, 50)
        self.change("status", price=paid)
        self.messages["receipt"] = receipt_for(self.messages["status"], paid)  # type: ignore[arg-type] # it is one

    def events(self) -> list[Event]:
        opened, received, *rest = super().events()
        assert isinstance(opened, RequestOpened)
        terms = msgspec.structs.replace(opened.terms, pricing=Pricing.SECOND_PRICE)
        return [RequestOpened(terms, NOW), self.kept("sealed"), self.kept("closing"), received, *rest]


def faults(story: Story, gone: int | None = None) -> set[FaultCode]:
    def without(events: list[Event]) -> list[Event]:
        return [event for place, event in enumerate(events) if place != gone]

    return {fault.code for fault in verify(story.file(without)).faults}


def test_a_price_that_follows_from_the_list_is_sound_and_explained() -> None:
    found = verify(Sealed().file())

    assert found.faults == ()
    (agreed,) = found.agreements
    assert agreed.price == FAIR.price > BID.price
    assert "at more it would have lost to" in agreed.because


def test_a_provider_proves_the_same() -> None:
    story = Sealed()
    story.exporter = PROVIDER
    events = [
        story.kept(name) for name in ("request", "sealed", "closing", "bid", "commit", "ack", "status", "receipt")
    ]

    assert verify(story.file(lambda _: events)).faults == ()


@pytest.mark.parametrize(
    "award",
    [
        None,
        Award(FAIR.price - 1, FAIR.rival),
        Award(FAIR.price + 1, FAIR.rival),
        Award(BID.price, FAIR.rival),
        Award(BID.price),
        Award(20, rival_from(msgspec.structs.replace(OTHER, price=20), STRANGER.peer_id)),
    ],
)
def test_any_other_price_is_named_though_both_have_signed_it(award: Award | None) -> None:
    assert faults(Sealed(award)) == {FaultCode.PRICE_UNPROVEN}


@pytest.mark.parametrize("changed", [{"price": 11}, {"salt": b"x" * 32}, {"slots": 2}])
def test_a_bid_that_is_not_what_was_sealed_is_named(changed: dict[str, Any]) -> None:
    assert FaultCode.SEAL_DIFFERS in faults(Sealed().change("bid", **changed))


def test_a_list_without_the_winner_and_one_that_is_not_there_are_named() -> None:
    assert faults(
        Sealed().change("closing", seals=LISTED[:1] if LISTED[0] != seal_of(MINE, PROVIDER.peer_id) else LISTED[1:])
    ) == {FaultCode.MISSING}
    assert faults(Sealed(), gone=2) == {FaultCode.MISSING}
    assert faults(Sealed(), gone=1) == {FaultCode.MISSING}


def test_a_list_to_which_the_rival_was_added_later_is_named() -> None:
    assert faults(Sealed().change("closing", seals=(seal_of(MINE, PROVIDER.peer_id),))) == {FaultCode.PRICE_UNPROVEN}


def test_another_maximum_than_the_requests_is_named() -> None:
    story = Sealed().change("sealed", max_price=90)
    story.exporter = PROVIDER
    events = [
        story.kept(name) for name in ("request", "sealed", "closing", "bid", "commit", "ack", "status", "receipt")
    ]

    assert {fault.code for fault in verify(story.file(lambda _: events)).faults} == {FaultCode.FIGURES_DIFFER}


def test_a_list_by_somebody_else_is_named() -> None:
    story = Sealed()
    story.signers["closing"] = STRANGER

    assert FaultCode.WRONG_SIGNER in faults(story)


def test_a_second_price_that_nobody_asked_for_and_one_that_was_forgotten_are_named() -> None:
    unasked = Sealed()
    plain = Story.events(unasked)
    assert {fault.code for fault in verify(unasked.file(lambda _: plain)).faults} == {FaultCode.PRICE_UNPROVEN}

    forgotten = Story()
    opened, *rest = forgotten.events()
    assert isinstance(opened, RequestOpened)
    asked = RequestOpened(msgspec.structs.replace(opened.terms, pricing=Pricing.SECOND_PRICE), NOW)
    assert {fault.code for fault in verify(forgotten.file(lambda _: [asked, *rest])).faults} == {
        FaultCode.PRICE_UNPROVEN
    }
