"""Results that a declared comparator compares: what it is asked and when, and how its word is counted, kept and overruled by hashes."""

import msgspec
import pytest

from dms_proto.ids import AllocationId, Digest, PeerId, RequestId, digest_of
from dms_proto.market import auction
from dms_proto.market.auction_copies import quorum_faults
from dms_proto.market.auction_effects import Compare
from dms_proto.market.auction_events import AttemptEnded, ComparisonBegun, ResultJudged, ResultsCompared
from dms_proto.market.auction_state import SlotPhase
from dms_proto.market.auction_stimuli import CancelAsked
from dms_proto.market.auction_terms import KNOWN, Answer, Canary, Given
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.seen import seen_in
from dms_proto.messages import Receipt
from dms_proto.reputation.evidence import Kind
from dms_proto.sim.comparing import BROKEN, NEAR, SPOILT, compared
from dms_proto.sim.requester import Requester
from dms_proto.verification.policy import MAX_COPIES, PROVEN, Apart, Policy, Verification
from dms_proto.verification.quorum import Result
from dms_proto.work import Ending, EndReason, Output


def requester(copies: int = 2, comparator: str = NEAR, **changed: object) -> Requester:
    """A request whose results are compared; its peers are "a", "b", …"""
    verify = Verification(Policy.REPLICATE, copies, comparator, Apart.NODES)
    return Requester(**({"verify": verify, "seed": b"secret", "queue_ms": 0} | changed))


def opened(market: Requester, *peers: str) -> Requester:
    """All peers bid, and whoever is chosen acknowledges."""
    if market.state.terms is None:
        market.submit(*peers)
    else:
        market.asks(*peers)
    for peer in peers:
        number = market.state.numbers.get(PeerId(peer), -1) + 1
        market.bid(peer, number, facts=BidderFacts(source=f"net {peer}", streak=PROVEN))
    market.wait(market.terms.window_ms)
    for bid_id, bid in tuple(market.state.bids.items()):
        if bid.ack_until:
            market.acks(bid.provider, bid_id)
    return market


def file(size: int) -> tuple[Output, ...]:
    return (Output("out", digest_of(b"%d" % size), size),)


def answers(market: Requester, peer: str, size: int, reason: EndReason = EndReason.COMPLETED) -> None:
    (allocation,) = (s.allocation_id for s in market.state.slots if (s.provider, s.phase) == (peer, SlotPhase.HELD))
    market.ends(peer, allocation, reason, outputs=file(size))


def slot_of(market: Requester, peer: str) -> int:
    return next(slot.index for slot in market.state.slots if slot.provider == peer)


def comparing(market: Requester) -> Compare:
    (wanted,) = market.wanted(Compare)
    return wanted


def indexes(given: tuple[Given, ...]) -> tuple[int, ...]:
    return tuple(each.index for each in given)


def verdict(market: Requester) -> ResultJudged:
    (judged,) = (event for event in market.log if isinstance(event, ResultJudged))
    assert not quorum_faults(market.state, judged)
    return judged


def right(judged: ResultJudged) -> set[str]:
    return {answer.provider for answer in judged.right}


def two_that_differ(a: int = 100, b: int = 101, **changed: object) -> Requester:
    market = opened(requester(**changed), "a", "b")  # type: ignore[arg-type]
    answers(market, "a", a)
    answers(market, "b", b)
    return market


def test_answers_that_differ_are_shown_to_the_comparator_and_what_it_says_is_counted() -> None:
    market = two_that_differ()
    wanted = comparing(market)
    assert (wanted.comparator, wanted.founders, indexes(wanted.fresh)) == (NEAR, (), (0, 1))
    assert {given.allocation_id for given in wanted.fresh} == {slot.allocation_id for slot in market.state.slots}
    assert [given.outputs for given in wanted.fresh] == [slot.outputs for slot in market.state.slots]
    assert not market.sent(Receipt)

    market.tell(compared(wanted))

    assert right(verdict(market)) == {"a", "b"}
    assert verdict(market).accepted == 0
    assert market.reason is EndReason.COMPLETED
    (said,) = market.noted(ResultsCompared)
    assert (said.camps, said.comparator, said.at) == (((0, 1),), "near 1", market.now)


def test_what_is_the_same_by_hash_is_never_shown_to_it() -> None:
    market = two_that_differ(100, 100)

    assert not market.wanted(Compare)
    assert right(verdict(market)) == {"a", "b"}


def test_a_failure_and_a_success_are_never_the_same_whatever_they_left() -> None:
    market = opened(requester(), "a", "b")
    answers(market, "a", 100)
    answers(market, "b", 101, EndReason.EXIT_NONZERO)

    assert not market.wanted(Compare)
    assert market.called() == [1]

    opened(market, "c")
    answers(market, "c", 102)
    assert indexes(comparing(market).fresh) == (slot_of(market, "a"), slot_of(market, "c"))
    market.tell(compared(comparing(market)))
    assert market.state.verdicts == {}

    opened(market, "d")
    answers(market, "d", 99)
    market.tell(compared(comparing(market)))

    assert right(verdict(market)) == {"a", "c", "d"}
    assert [answer.provider for answer in verdict(market).wrong] == ["b"]


def test_answers_that_ended_alike_are_compared_one_kind_of_end_after_the_other() -> None:
    market = opened(requester(4), "a", "b", "c", "d")
    answers(market, "a", 100)
    answers(market, "b", 101)
    answers(market, "c", 200, EndReason.EXIT_NONZERO)
    answers(market, "d", 201, EndReason.EXIT_NONZERO)
    first = comparing(market)
    assert len(first.fresh) == 2

    market.tell(compared(first))
    second = comparing(market)
    assert not set(indexes(first.fresh)) & set(indexes(second.fresh))
    market.tell(compared(second))

    assert len(market.state.comparisons[0].camps) == 2
    assert market.called() == [1]


def test_one_more_copy_is_compared_with_those_that_founded_camps_and_the_camps_stay() -> None:
    market = two_that_differ(100, 200)
    market.tell(compared(comparing(market)))
    assert market.called() == [1]
    opened(market, "c")
    answers(market, "c", 201)

    wanted = comparing(market)
    assert (indexes(wanted.founders), indexes(wanted.fresh)) == ((0, 1), (2,))
    market.tell(compared(wanted))
    opened(market, "d")
    answers(market, "d", 200)

    assert not market.wanted(Compare)  # its bytes are those of an answer that has its camp
    assert right(verdict(market)) == {"b", "c", "d"}
    assert [answer.provider for answer in verdict(market).wrong] == ["a"]


def test_nearness_is_not_transitive_and_counts_from_the_answer_that_founded_the_camp() -> None:
    market = opened(requester(3), "a", "b", "c")
    for peer, size in zip(sorted("abc", key=lambda peer: slot_of(market, peer)), (100, 102, 104), strict=True):
        answers(market, peer, size)
    market.tell(compared(comparing(market)))

    assert market.state.comparisons[0].camps == ((0, 1), (2,))
    assert not market.state.verdicts


def test_who_answers_sooner_founds_no_camp_by_it() -> None:
    market = opened(requester(3), "a", "b", "c")
    for peer in sorted("abc", key=lambda peer: -slot_of(market, peer)):
        answers(market, peer, 100 + slot_of(market, peer))

    assert indexes(comparing(market).fresh) == (0, 1, 2)


def test_a_comparator_that_fails_leaves_the_piece_undecided_in_words_and_everybody_is_paid() -> None:
    market = two_that_differ(comparator=BROKEN)
    market.tell(compared(comparing(market)))

    judged = verdict(market)
    assert judged.why == "2 answers; broken 1 cannot compare them: it is broken"
    assert (judged.accepted, judged.wrong) == (None, ())
    assert market.reason is EndReason.UNDECIDED
    assert market.state.ending is not None
    assert market.state.ending.detail == judged.why
    assert [receipt.price for receipt in market.sent(Receipt)] == [50, 50]
    assert not list(seen_in(judged))


def test_a_copy_that_is_sought_is_not_needed_any_more_once_the_comparator_has_failed() -> None:
    market = opened(requester(3, BROKEN), "a", "b", "c")
    held = {slot.provider: slot.allocation_id for slot in market.state.slots}
    market.ends("c", held[PeerId("c")], EndReason.PROVIDER_FAULT)
    answers(market, "a", 100)
    answers(market, "b", 101)
    market.tell(compared(comparing(market)))

    assert market.reason is EndReason.UNDECIDED
    (dropped,) = (event for event in market.noted(AttemptEnded) if not event.provider)
    assert dropped.ending.detail == "not needed any more: copies cannot be compared"


def test_an_answer_that_cannot_be_compared_holds_nothing_up_and_is_not_called_wrong() -> None:
    market = two_that_differ(100, SPOILT)
    market.tell(compared(comparing(market)))
    assert not market.state.verdicts
    opened(market, "c")
    answers(market, "c", 101)
    market.tell(compared(comparing(market)))
    opened(market, "d")
    answers(market, "d", 102)
    market.tell(compared(comparing(market)))

    assert len(right(verdict(market))) == 3
    assert not verdict(market).wrong
    (unfit,) = verdict(market).unjudged
    assert market.state.slots[unfit.slot].outputs == file(SPOILT)
    assert [receipt.price for receipt in market.sent(Receipt)] == [50] * 4
    assert verdict(market).unfit == (unfit,)
    assert kinds(market) == dict.fromkeys(right(verdict(market)), Kind.RIGHT) | {unfit.provider: Kind.UNFIT}


def test_that_an_answer_cannot_be_compared_is_said_where_it_stays_undecided() -> None:
    market = opened(requester(), "p0", "p1")
    for number in range(MAX_COPIES):
        answers(market, f"p{number}", SPOILT if number == 1 else 100 * number)
        for wanted in market.wanted(Compare):
            market.tell(compared(wanted))
        if number and number + 1 < MAX_COPIES:
            opened(market, f"p{number + 1}")

    assert market.reason is EndReason.UNDECIDED
    assert "; that of slot 1 cannot be compared: it is too large" in verdict(market).why


def test_it_is_asked_once_and_what_it_says_again_or_of_something_else_changes_nothing() -> None:
    market = two_that_differ()
    wanted = comparing(market)
    market.wait(1_000)
    assert not market.wanted(Compare)
    said = compared(wanted)
    market.tell(msgspec.structs.replace(said, asked=(0,)))
    assert not market.events
    market.tell(msgspec.structs.replace(said, piece=7))
    assert not market.events

    market.tell(said)
    market.tell(said)

    assert not market.events


def test_after_a_restart_it_is_asked_the_same_again() -> None:
    market = two_that_differ()
    wanted = comparing(market)
    live = market.state
    assert market.restart() == live

    assert [effect for effect in auction.resume(market.state) if isinstance(effect, Compare)] == [wanted]
    market.tell(compared(wanted))
    assert market.restart() == market.state
    assert market.reason is EndReason.COMPLETED


@pytest.mark.parametrize("is_asked", [True, False])
def test_what_is_stopped_does_not_wait_for_a_comparator(is_asked: bool) -> None:
    market = opened(requester(), "a", "b")
    answers(market, "a", 100)
    if is_asked:
        answers(market, "b", 101)
    market.tell(CancelAsked())
    if not is_asked:
        answers(market, "b", 101)

    assert market.reason is EndReason.CANCELLED
    assert verdict(market).accepted is None
    assert not market.wanted(Compare)
    assert not [effect for effect in auction.resume(market.state) if isinstance(effect, Compare)]


def test_a_copy_that_answers_while_others_are_compared_is_compared_in_its_turn() -> None:
    market = opened(requester(3), "a", "b", "c")
    held = {slot.provider: slot.allocation_id for slot in market.state.slots}
    market.ends("a", held[PeerId("a")], EndReason.PROVIDER_FAULT)
    lost = slot_of(market, "a")
    answers(market, "b", 100)
    answers(market, "c", 101)
    first = comparing(market)
    opened(market, "d")
    answers(market, "d", 100)  # the same as b's, in a slot before it
    assert slot_of(market, "d") == lost
    assert not market.wanted(Compare)

    market.tell(compared(first))

    assert not market.wanted(Compare)
    assert right(verdict(market)) == {"b", "c", "d"}


# ------------------------------------------------------------------------------------------------------------- known work


def canary(comparator: str = NEAR, known: int = 100) -> Requester:
    """Known work, which "x" and "y" agreed on, at "a"."""
    seen = tuple(Answer(0, PeerId(peer), AllocationId(f"a-{peer}"), source=f"net {peer}") for peer in "xy")
    result = Result(Ending(EndReason.COMPLETED, 0), file(known))
    given = Given(KNOWN, AllocationId("a-x"), file(known))
    verify = Verification(Policy.ADAPTIVE, comparator=comparator, apart=Apart.NODES)
    earlier = Canary(RequestId("r-earlier"), 0, 1, result, seen, seen, given)
    return opened(Requester(verify=verify, seed=b"secret", canary=earlier, bids_wanted=1), "a")


def kinds(market: Requester) -> dict[str, Kind]:
    return {provider: kind for provider, _, kind in seen_in(verdict(market))}


def test_the_known_answer_is_compared_in_the_same_way() -> None:
    market = canary()
    answers(market, "a", 102)
    wanted = comparing(market)
    assert indexes(wanted.fresh) == (KNOWN, 0)
    assert wanted.fresh[0].allocation_id == "a-x"

    market.tell(compared(wanted))

    assert kinds(market) == {"a": Kind.RIGHT}


def test_one_that_is_not_as_known_is_settled_by_others_who_are_compared_with_both() -> None:
    market = canary()
    answers(market, "a", 500)
    market.tell(compared(comparing(market)))
    for slot, (peer, value) in enumerate(zip("bcde", (501, 502, 499, 498), strict=True), start=1):
        opened(market, peer)
        answers(market, peer, value)
        wanted = comparing(market)
        assert (indexes(wanted.founders), indexes(wanted.fresh)) == ((KNOWN, 0), (slot,))
        market.tell(compared(wanted))
    opened(market, "f")
    answers(market, "f", 501)

    assert kinds(market) == dict.fromkeys("abcdef", Kind.RIGHT) | {"x": Kind.WRONG, "y": Kind.WRONG}


def test_who_gave_a_known_answer_that_cannot_be_compared_is_not_trusted_any_more() -> None:
    market = canary(known=SPOILT)
    answers(market, "a", 500)
    market.tell(compared(comparing(market)))
    opened(market, "b")
    answers(market, "b", 501)
    market.tell(compared(comparing(market)))

    assert kinds(market) == {"a": Kind.RIGHT, "b": Kind.RIGHT, "x": Kind.UNFIT, "y": Kind.UNFIT}


def test_a_comparator_that_fails_proves_nothing_of_known_work() -> None:
    market = canary(BROKEN)
    answers(market, "a", 101)
    market.tell(compared(comparing(market)))

    assert kinds(market) == {}
    assert verdict(market).canary == ("r-earlier", 0)
    assert market.reason is EndReason.UNDECIDED


def test_a_verdict_that_its_camps_do_not_bear_out_is_a_fault() -> None:
    market = two_that_differ(100, 200)
    market.tell(compared(comparing(market)))
    a, b = (Answer(slot.index, slot.provider, slot.allocation_id) for slot in market.state.slots[:2])

    assert "do not agree" in quorum_faults(market.state, ResultJudged(0, 1, a.slot, right=(a, b)))
    market = two_that_differ(100, 101)
    market.tell(compared(comparing(market)))
    assert "without being another" in quorum_faults(market.state, ResultJudged(0, 1, a.slot, right=(a,), wrong=(b,)))


def test_a_comparison_that_was_begun_names_what_is_compared() -> None:
    market = two_that_differ()
    assert market.noted(ComparisonBegun) == [ComparisonBegun(0, (), (0, 1))]
    assert Digest(file(100)[0].digest) in {given.outputs[0].digest for given in comparing(market).fresh}
