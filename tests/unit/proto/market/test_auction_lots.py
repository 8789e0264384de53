"""Answers that were taken as they came, in a job of several pieces: provisional until it is over, looked at by lots, done again where in doubt."""

from __future__ import annotations

from itertools import pairwise

from dms_proto.ids import Digest, PeerId
from dms_proto.market.auction_copies import quorum_faults
from dms_proto.market.auction_events import CopyCalled, ResultJudged
from dms_proto.market.auction_lots import provisional
from dms_proto.market.auction_state import SearchPhase, Slot, SlotPhase
from dms_proto.market.auction_stimuli import CancelAsked
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.preferences import Preferences
from dms_proto.messages import Receipt
from dms_proto.sim.requester import NEVER, Requester
from dms_proto.verification.policy import LOOK_ONE_IN, WARY, Apart, Policy, Verification, is_check_due, looks_due
from dms_proto.work import EndReason, Output

TRUSTED = 10 * WARY
"""A streak of whoever is checked as rarely as can be."""
RIGHT = (Output("out", Digest("sha256:" + "0" * 64), 3),)
WRONG = (Output("out", Digest("sha256:" + "1" * 64), 3),)
ROOM = 40


def seed_for(count: int, *, looks: dict[str, int], checks: int = 0, checked_first: bool = False) -> bytes:
    """A secret by which so many of the first `count` pieces are checked at once, and so many looks are due by then of each provider's `count`."""
    for number in range(100_000):
        seed = f"secret {number}".encode()
        due = [piece for piece in range(count) if is_check_due(TRUSTED, seed, piece)]
        is_fit = all(looks_due(count, seed, PeerId(peer)) == wanted for peer, wanted in looks.items())
        if is_fit and len(due) == checks and (not checked_first or due[:1] == [0]):
            return seed
    raise AssertionError("no such secret")


def job(count: int, seed: bytes, *bidders: str, rooms: dict[str, int] | None = None) -> Requester:
    """A job of so many pieces, of which the first bidder has them all, and the others have room for copies."""
    verify = Verification(Policy.ADAPTIVE, apart=Apart.NODES)
    market = Requester(verify=verify, seed=seed, queue_ms=0, count=count, preferences=Preferences(spread_percent=0))
    market.submit(*bidders)
    bids(market, *bidders, rooms=rooms)
    return market


def bids(market: Requester, *bidders: str, rooms: dict[str, int] | None = None) -> None:
    """All of them bid, the first cheapest, and whoever is chosen acknowledges."""
    for place, peer in enumerate(bidders):
        facts = BidderFacts(source=f"net {peer}", streak=TRUSTED, successes=9)
        number = market.state.numbers.get(PeerId(peer), -1) + 1
        market.bid(peer, number, price=100 + place, slots=(rooms or {}).get(peer, ROOM), facts=facts)
    market.wait(market.terms.window_ms)
    for bid_id, bid in tuple(market.state.bids.items()):
        if bid.ack_until:
            market.acks(bid.provider, bid_id)


def looks(market: Requester, *bidders: str) -> None:
    """The round that a look has called: all of them bid for it."""
    market.asks(*bidders)
    bids(market, *bidders)


def at_work(market: Requester) -> list[Slot]:
    return [slot for slot in market.state.slots if slot.phase is SlotPhase.HELD]


def answer(market: Requester, *lies: int) -> None:
    """Whatever is at work ends; who has slots in `lies` gives something else there."""
    for slot in at_work(market):
        outputs = WRONG if slot.index in lies else RIGHT
        market.ends(slot.provider, slot.allocation_id, outputs=outputs)


def called(market: Requester) -> list[int]:
    return [event.piece for event in market.log if isinstance(event, CopyCalled)]


def verdicts(market: Requester) -> dict[int, ResultJudged]:
    return {event.piece: event for event in market.log if isinstance(event, ResultJudged)}


def test_an_answer_taken_as_it_comes_is_provisional_and_unpaid_until_the_job_is_over() -> None:
    market = job(3, seed_for(3, looks={"a": 0}), "a", "b")
    first, second, third = at_work(market)
    market.ends("a", first.allocation_id, outputs=RIGHT)
    market.ends("a", second.allocation_id, outputs=RIGHT)

    assert set(provisional(market.state)) == {0, 1}
    assert not verdicts(market)
    assert not market.sent(Receipt)

    market.ends("a", third.allocation_id, outputs=RIGHT)

    assert market.reason is EndReason.COMPLETED
    assert [(judged.accepted, judged.right) for judged in verdicts(market).values()] == [(0, ()), (1, ()), (2, ())]
    assert len(market.sent(Receipt)) == 3


def test_a_job_of_one_piece_waits_for_nothing() -> None:
    market = job(1, seed_for(1, looks={}), "a", "b")
    answer(market)

    assert market.reason is EndReason.COMPLETED


def test_of_every_lot_one_in_so_many_is_looked_at_when_it_is_there() -> None:
    count = 2 * LOOK_ONE_IN
    market = job(count, seed_for(count, looks={"a": 2}), "a", "b")
    assert not called(market)

    answer(market)
    assert len(called(market)) == 2
    assert not verdicts(market)

    looks(market, "b")
    answer(market)

    assert market.reason is EndReason.COMPLETED
    assert len(called(market)) == 2
    judged = verdicts(market)
    assert [sorted(each.provider for each in judged[piece].right) for piece in called(market)] == [["a", "b"]] * 2
    assert all(not judged[piece].right for piece in judged if piece not in called(market))


def test_what_was_checked_at_once_counts_as_looked_at() -> None:
    count = LOOK_ONE_IN
    market = job(count, seed_for(count, looks={"a": 1}, checks=1), "a", "b")
    answer(market)

    assert len(called(market)) == 1
    assert market.reason is EndReason.COMPLETED


def test_one_lie_that_is_seen_has_the_rest_of_the_lot_done_again() -> None:
    count = LOOK_ONE_IN
    market = job(count, seed_for(count, looks={"a": 1}), "a", "b", "c", "d")
    answer(market, *range(count))
    (seen,) = called(market)
    while market.state.ending is None:
        looks(market, "b", "c", "d")
        answer(market)

    assert set(called(market)) == set(range(count))
    assert market.reason is EndReason.COMPLETED
    for judged in verdicts(market).values():
        assert [each.provider for each in judged.wrong] == ["a"]
        assert judged.accepted is not None
        assert market.state.slots[judged.accepted].outputs == RIGHT
    assert called(market)[0] == seen
    assert market.state.ending.price == 50 * (3 + 2 * (count - 1)), (
        "nothing is owed to the liar, whose word weighs half once it was wrong"
    )


def test_what_comes_later_of_whoever_is_in_doubt_is_done_again_as_well() -> None:
    market = job(3, seed_for(3, looks={"a": 0}, checks=1, checked_first=True), "a", "b", "c", "d")
    first, late, later, copy = at_work(market)
    market.ends("a", first.allocation_id, outputs=WRONG)
    market.ends(copy.provider, copy.allocation_id, outputs=RIGHT)
    while 0 not in verdicts(market):
        looks(market, "b", "c", "d")
        for slot in at_work(market):
            if slot.piece == 0:
                market.ends(slot.provider, slot.allocation_id, outputs=RIGHT)
    assert set(called(market)) == {0}

    market.ends("a", late.allocation_id, outputs=RIGHT)
    assert set(called(market)) == {0, late.piece}
    market.ends("a", later.allocation_id, outputs=RIGHT)
    assert set(called(market)) == {0, late.piece, later.piece}


def test_a_look_that_nobody_can_take_leaves_the_answer_as_it_was() -> None:
    count = LOOK_ONE_IN
    market = job(count, seed_for(count, looks={"a": 1}), "a")
    answer(market)
    (seen,) = called(market)

    nobody_bids(market)

    assert market.reason is EndReason.COMPLETED
    judged = verdicts(market)[seen]
    assert (judged.accepted, judged.right) == (seen, ())
    assert not quorum_faults(market.state, judged)
    assert market.state.ending is not None
    assert market.state.ending.price == 50 * count


def test_an_answer_in_doubt_that_nobody_can_do_again_is_not_accepted() -> None:
    count = LOOK_ONE_IN
    market = job(count, seed_for(count, looks={"a": 1}), "a")
    answer(market, *range(count))
    (seen,) = called(market)
    while seen not in verdicts(market):
        looks(market, "b", "c", "d")
        answer(market)
    assert len(set(called(market))) == count

    nobody_bids(market)

    assert market.reason is EndReason.UNDECIDED
    assert all(judged.accepted is None for piece, judged in verdicts(market).items() if piece != seen)


def test_what_is_stopped_takes_what_it_has() -> None:
    market = job(3, seed_for(3, looks={"a": 0}), "a", "b")
    market.ends("a", at_work(market)[0].allocation_id, outputs=RIGHT)
    assert not verdicts(market)

    market.tell(CancelAsked())

    assert verdicts(market)[0].accepted == 0


def test_looks_are_due_for_one_in_so_many_whatever_chance_says() -> None:
    for number in range(50):
        due = [looks_due(answers, bytes([number]), PeerId("a")) for answers in range(5 * LOOK_ONE_IN)]
        assert due[0] == 0
        assert all(later - earlier in (0, 1) for earlier, later in pairwise(due))
        assert [due[n + LOOK_ONE_IN] - due[n] for n in range(4 * LOOK_ONE_IN)] == [1] * (4 * LOOK_ONE_IN)
    first = [looks_due(1, bytes([number]), PeerId("a")) for number in range(256)]
    assert abs(sum(first) - 256 / LOOK_ONE_IN) < 20


def nobody_bids(market: Requester) -> None:
    """Whoever is asked says no, until nothing is asked any more."""
    for _ in range(20):
        if market.state.ending is not None:
            return
        if market.state.search is SearchPhase.CALLED:
            market.asks("z")
            market.declines("z", NEVER)
        market.wait(60_000)
