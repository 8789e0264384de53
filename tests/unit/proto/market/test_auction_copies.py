"""Copies of one piece of work: who gets one, whose result holds, what is paid, and what providers can tell from what they are told."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.accounts.book import Account, Book
from dms_proto.ids import AllocationId, Digest, PeerId
from dms_proto.machine import Send
from dms_proto.market.auction_effects import Announce
from dms_proto.market.auction_events import AttemptEnded, CopyCalled, ResultJudged
from dms_proto.market.auction_state import SearchPhase, SlotPhase
from dms_proto.market.auction_stimuli import AllocationCancelAsked, CancelAsked, PeerThere, StatusHeard
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.preferences import Preferences
from dms_proto.market.seen import seen_in
from dms_proto.messages import Commit, Invocation, Phase, Receipt
from dms_proto.reputation.evidence import Kind
from dms_proto.rules import MAX_COUNT
from dms_proto.sim.requester import NEVER, Requester
from dms_proto.units import MINUTE, SECOND
from dms_proto.verification.policy import MAX_COPIES, WARY, Apart, Policy, Verification
from dms_proto.work import EndReason, Output

TRUSTED = 10 * WARY
"""A streak of whoever is checked as rarely as can be."""
RIGHT = (Output("out", Digest("sha256:" + "0" * 64), 3),)
OTHER = (Output("out", Digest("sha256:" + "1" * 64), 3),)


def requester(
    policy: Policy = Policy.ADAPTIVE, copies: int = 2, apart: Apart = Apart.NODES, **changed: object
) -> Requester:
    """A request whose results are checked. Its peers are "a", "b", … at sources of their own unless a bid says otherwise."""
    verify = Verification(policy, copies, apart=apart)
    return Requester(**({"verify": verify, "seed": b"secret", "queue_ms": 0} | changed))


def opened(market: Requester, *peers: str, streaks: dict[str, int] | None = None) -> Requester:
    """All peers bid, and whoever is chosen acknowledges."""
    if market.state.terms is None:
        market.submit(*peers)
    else:
        market.asks(*peers)
    for peer in peers:
        number = market.state.numbers.get(PeerId(peer), -1) + 1
        market.bid(peer, number, facts=BidderFacts(source=f"net {peer}", streak=(streaks or {}).get(peer, 0)))
    market.wait(market.terms.window_ms)
    acknowledged(market)
    return market


def acknowledged(market: Requester) -> None:
    for bid_id, bid in tuple(market.state.bids.items()):
        if bid.ack_until:
            market.acks(bid.provider, bid_id)


def held(market: Requester) -> dict[str, AllocationId]:
    return {slot.provider: slot.allocation_id for slot in market.state.slots if slot.phase is SlotPhase.HELD}


def answers(market: Requester, peer: str, outputs: tuple[Output, ...] = RIGHT, **told: object) -> None:
    market.ends(peer, held(market)[peer], outputs=outputs, **told)  # type: ignore[arg-type]


def verdicts(market: Requester) -> list[ResultJudged]:
    return [event for event in market.log if isinstance(event, ResultJudged)]


def test_every_piece_runs_on_as_many_nodes_as_the_job_asks() -> None:
    market = opened(requester(Policy.REPLICATE, 3), "a", "b", "c", "d")

    assert len(held(market)) == 3


def test_a_result_is_accepted_when_the_copies_agree() -> None:
    market = opened(requester(Policy.REPLICATE), "a", "b")
    answers(market, "a")
    assert not verdicts(market)

    answers(market, "b")

    (judged,) = verdicts(market)
    assert {answer.provider for answer in judged.right} == {"a", "b"}
    assert market.reason is EndReason.COMPLETED


def test_who_is_outvoted_is_wrong_and_gets_nothing_and_the_others_are_paid() -> None:
    market = opened(requester(Policy.REPLICATE, 4), "a", "b", "c", "d")
    for peer in "abc":
        answers(market, peer)
    assert not market.sent(Receipt)

    answers(market, "d", OTHER)

    assert {receipt.price for receipt in market.sent(Receipt)} == {0, 50}
    (judged,) = verdicts(market)
    assert [answer.provider for answer in judged.wrong] == ["d"]
    booked = {effect.entry.peer: effect.entry for effect in market.wanted(Book)}
    assert not booked[PeerId("d")].transfers
    assert "agree on another result" in booked[PeerId("d")].detail
    assert booked[PeerId("d")].refused == 50
    assert booked[PeerId("a")].transfers[0].debit is Account.EXPENSE
    assert market.state.ending is not None
    assert market.state.ending.price == 150
    assert {(provider, kind) for provider, _, kind in seen_in(judged)} == {
        ("a", Kind.RIGHT),
        ("b", Kind.RIGHT),
        ("c", Kind.RIGHT),
        ("d", Kind.WRONG),
    }


def test_the_receipt_of_a_wrong_result_says_the_same_when_it_is_asked_for_again() -> None:
    market = opened(requester(Policy.REPLICATE, 4), "a", "b", "c", "d", "e")
    statuses = {slot.provider: slot for slot in market.state.slots}
    for peer in "abc":
        answers(market, peer)
    answers(market, "d", OTHER)
    status = market.state.slots[statuses[PeerId("d")].index].status
    assert status is not None

    market.tell(StatusHeard(PeerId("d"), status, complete=True))

    assert [receipt.price for receipt in market.sent(Receipt)] == [0]


def test_nothing_is_said_of_an_answer_that_is_not_judged_yet() -> None:
    market = opened(requester(Policy.REPLICATE), "a", "b")
    allocation = held(market)["a"]
    answers(market, "a")
    assert not market.sent(Receipt)

    market.ends("a", allocation, outputs=RIGHT)

    assert not market.effects


def test_copies_that_disagree_are_settled_by_one_more_at_somebody_who_has_none() -> None:
    market = opened(requester(Policy.REPLICATE), "a", "b")
    answers(market, "a")
    answers(market, "b", OTHER)
    assert market.noted(CopyCalled)
    assert market.called() == [1]

    opened(market, "a", "b", "c")

    assert list(held(market)) == ["c"]


def test_a_newcomer_is_checked_and_the_copy_is_placed_at_once() -> None:
    market = opened(requester(bids_wanted=5), "a", "b", "c", "d", "e", streaks={"e": TRUSTED})

    assert len(held(market)) == 3  # one proven and two newcomers weigh enough together


def test_a_proven_provider_is_taken_at_its_word_unless_a_check_is_drawn() -> None:
    market = requester(seed=_seed(check=False))
    opened(market, "a", "b", streaks={"a": TRUSTED, "b": TRUSTED})
    (peer,) = held(market)

    answers(market, peer)

    (judged,) = verdicts(market)
    assert judged.accepted == 0
    assert not judged.right
    assert [receipt.price for receipt in market.sent(Receipt)] == [50]
    assert market.reason is EndReason.COMPLETED


def test_a_check_is_drawn_from_the_secret_of_the_request() -> None:
    market = requester(seed=_seed(check=True))
    opened(market, "a", "b", streaks={"a": TRUSTED, "b": TRUSTED})

    assert len(held(market)) == 2


def test_a_failure_of_the_job_itself_is_never_taken_unchecked() -> None:
    market = requester(seed=_seed(check=False))
    opened(market, "a", "b", streaks={"a": TRUSTED, "b": TRUSTED})
    (first,) = held(market)
    market.ends(first, held(market)[first], EndReason.EXIT_NONZERO)
    assert not verdicts(market)

    opened(market, "a", "b", streaks={"a": TRUSTED, "b": TRUSTED})
    (second,) = held(market)
    market.ends(second, held(market)[second], EndReason.EXIT_NONZERO)

    assert market.reason is EndReason.EXIT_NONZERO
    assert len(verdicts(market)[0].right) == 2


def test_a_check_goes_to_a_proven_provider_first() -> None:
    market = requester(bids_wanted=3)
    market.submit("a", "b", "c")
    market.bid("a", price=1)
    market.bid("b", price=500)
    market.bid("c", price=1_000, facts=BidderFacts(streak=TRUSTED))

    assert {slot.provider for slot in market.state.slots if slot.provider} == {"a", "b", "c"}
    assert market.state.slots[1].provider == "c"


def test_two_copies_do_not_run_at_one_source() -> None:
    market = requester(Policy.REPLICATE, apart=Apart.SOURCES, patience_ms=MINUTE)
    market.submit("a", "b", "c")
    for peer, source in (("a", "8.8.8.0/24"), ("b", "8.8.8.0/24"), ("c", "9.9.9.0/24")):
        market.bid(peer, facts=BidderFacts(source=source))
    market.wait(market.terms.window_ms)

    sources = [slot.source for slot in market.state.slots]
    assert sorted(sources) == ["8.8.8.0/24", "9.9.9.0/24"]


def test_a_copy_for_which_there_is_nobody_leaves_the_result_undecided_and_what_ran_is_paid() -> None:
    market = opened(requester(Policy.REPLICATE), "a")
    answers(market, "a")
    market.wait(MINUTE)
    while market.reason is None:
        if market.state.search is SearchPhase.CALLED:
            market.asks("a")
            market.declines("a", NEVER)
        market.wait(SECOND)

    assert market.reason is EndReason.UNDECIDED
    (judged,) = verdicts(market)
    assert "1 answer; 1 of 2 votes for the same one; one more copy: no node is left" in judged.why
    assert [receipt.price for receipt in market.sent_ever(Receipt)] == [50]
    assert not list(seen_in(judged))


def test_a_copy_that_only_a_neighbour_could_have_says_so_and_what_would_let_it() -> None:
    market = requester(Policy.REPLICATE, apart=Apart.SOURCES)
    near = BidderFacts(source="8.8.8.0/24")
    market.submit("a", "b")
    for peer in "ab":
        market.bid(peer, facts=near)
    market.wait(market.terms.window_ms)
    acknowledged(market)
    (first,) = held(market)
    (other,) = {"a", "b"} - {first}
    answers(market, first)
    while market.reason is None:
        if market.state.search is SearchPhase.CALLED:
            market.asks(other)
            market.bid(other, market.state.numbers[PeerId(other)] + 1, facts=near)
        market.wait(SECOND)

    (judged,) = verdicts(market)
    assert "1 node could but shares a network with one that has a copy; `apart: nodes` would let it" in judged.why


def test_a_piece_on_which_nobody_agrees_is_given_up_after_the_last_copy() -> None:
    market = opened(requester(Policy.REPLICATE), "p0", "p1")
    for number in range(MAX_COPIES):
        answers(market, f"p{number}", (Output("out", Digest(f"sha256:{number:064d}"), 3),))
        if number >= 1 and number + 1 < MAX_COPIES:
            opened(market, f"p{number + 1}")

    assert market.reason is EndReason.UNDECIDED
    assert not verdicts(market)[0].wrong
    assert market.state.ending is not None
    assert market.state.ending.price == 50 * MAX_COPIES


def test_a_run_that_was_too_slow_is_outvoted_but_not_called_wrong() -> None:
    market = opened(requester(Policy.REPLICATE, 4), "a", "b", "c", "d")
    for peer in "abc":
        answers(market, peer)
    market.ends("d", held(market)["d"], EndReason.WALL_TIME)

    (judged,) = verdicts(market)
    assert [answer.provider for answer in judged.unjudged] == ["d"]
    assert not judged.wrong
    assert {receipt.price for receipt in market.sent(Receipt)} == {50}


def test_a_lost_copy_is_placed_anew_and_does_not_vote() -> None:
    market = opened(requester(Policy.REPLICATE), "a", "b")
    market.ends("b", held(market)["b"], EndReason.PROVIDER_FAULT)
    answers(market, "a")
    assert not verdicts(market)

    opened(market, "a", "c")
    answers(market, "c")

    assert {answer.provider for answer in verdicts(market)[0].right} == {"a", "c"}


def test_a_copy_that_seeks_is_dropped_once_the_others_agree() -> None:
    market = opened(requester(Policy.REPLICATE, 3), "a", "b", "c")
    market.ends("c", held(market)["c"], EndReason.PROVIDER_FAULT)
    answers(market, "a")
    answers(market, "b")

    assert market.reason is EndReason.COMPLETED
    dropped = [event for event in market.noted(AttemptEnded) if not event.provider]
    assert [event.ending.detail for event in dropped] == ["not needed any more: the other copies agree"]


def test_what_was_stopped_has_not_answered() -> None:
    market = opened(requester(Policy.REPLICATE), "a", "b")
    answers(market, "a")
    market.tell(AllocationCancelAsked(held(market)["b"]))
    market.ends("b", held(market)["b"], EndReason.EXIT_NONZERO)

    (judged,) = verdicts(market)
    assert judged.accepted is None
    assert not judged.wrong


def test_a_cancelled_request_is_not_undecided_and_what_ran_is_paid() -> None:
    market = opened(requester(Policy.REPLICATE), "a", "b")
    answers(market, "a")
    market.tell(CancelAsked())
    market.ends("b", held(market)["b"], EndReason.CANCELLED)

    assert market.reason is EndReason.CANCELLED
    assert {receipt.price for receipt in market.sent(Receipt)} == {50}


@pytest.mark.parametrize("policy", [Policy.REPLICATE, Policy.ADAPTIVE])
def test_copies_of_a_piece_are_told_the_same(policy: Policy) -> None:
    market = requester(policy, count=2, preferences=Preferences(spread_percent=0))
    market.submit("a", "b")
    for peer in ("a", "b"):
        market.bid(peer, slots=2)
    market.wait(market.terms.window_ms)

    acknowledged(market)

    told = {message.allocation_id: message.task.environment["DMS_INDEX"] for message in market.sent_ever(Invocation)}
    for slot in market.state.slots:
        assert not slot.provider or told[slot.allocation_id] == str(slot.piece)
    assert sorted(told.values()) == ["0", "0", "1", "1"]


def test_the_number_of_a_slot_does_not_tell_a_copy_from_other_work() -> None:
    numbers = set()
    for number in range(60):
        market = requester(seed=b"secret %d" % number)
        market.submit("a", "b")
        market.bid("a")
        market.bid("b")
        numbers |= {slot for commit in market.sent_ever(Commit) for slot in commit.slots}

    assert len(numbers) > 100
    assert max(numbers) > MAX_COUNT * 3 // 4


def test_the_secret_is_in_nothing_that_is_sent() -> None:
    market = opened(requester(seed=b"very secret"), "a", "b")
    asked = [effect.request for effect in market.all_effects if isinstance(effect, Announce)]
    for message in (*market.sent_ever(Commit), *asked):
        assert b"very secret" not in repr(message).encode()
        assert "adaptive" not in repr(message)


def test_a_verdict_survives_a_restart() -> None:
    market = opened(requester(Policy.REPLICATE), "a", "b")
    answers(market, "a")
    live = market.state
    assert market.restart() == live

    answers(market, "b")

    assert market.reason is EndReason.COMPLETED


def _seed(*, check: bool) -> bytes:
    """A secret by which a provider that is proven is checked for the first piece, or is not."""
    verify = Verification(Policy.ADAPTIVE)
    seeds = (b"seed %d" % number for number in range(1_000))
    return next(seed for seed in seeds if (verify.first_copies(TRUSTED, seed, 0) > 1) is check)


@pytest.mark.parametrize("deadline_ms", [0, 2_000])
def test_a_request_that_is_stopped_ends_as_such_though_all_copies_have_answered_and_disagree(deadline_ms: int) -> None:
    market = requester(Policy.REPLICATE)
    market.terms = msgspec.structs.replace(market.terms, deadline_at=deadline_ms and market.now + deadline_ms)
    opened(market, "a", "b")
    if deadline_ms:
        market.wait(deadline_ms)
    else:
        market.tell(CancelAsked())
    answers(market, "a")

    answers(market, "b", OTHER)

    assert market.reason is (EndReason.DEADLINE if deadline_ms else EndReason.CANCELLED)
    (judged,) = verdicts(market)
    assert judged.why.endswith("its deadline passed" if deadline_ms else "cancelled by its owner")
    assert [receipt.price for receipt in market.sent(Receipt)] == [50, 50]


def test_of_several_bids_of_one_provider_the_best_is_taken_for_a_copy() -> None:
    market = requester(Policy.REPLICATE, bids_wanted=3).submit("a", "b")
    for number, price in enumerate((1, 1_000)):
        market.bid("a", number, price=price, facts=BidderFacts(source="net a"))
    market.bid("b", price=100, facts=BidderFacts(source="net b"))
    market.wait(market.terms.window_ms)

    assert {slot.provider: slot.agreed for slot in market.state.slots} == {"a": 1, "b": 100}


def lone(seed: bytes) -> Requester:
    """The only bidder is proven; whether it is checked follows from the seed."""
    market = requester(seed=seed, queue_ms=MINUTE).submit("a", known=5)
    market.bid("a", facts=BidderFacts(source="net a", streak=TRUSTED))
    market.wait(market.terms.window_ms)
    acknowledged(market)
    market.reports("a", held(market)["a"], Phase.RUNNING)
    return market


def steps(market: Requester, step: str) -> None:
    match step:
        case "joins":
            market.tell(PeerThere(PeerId("c")))
        case "declines":
            market.declines("d")
        case "bids":
            market.bid("b", market.state.numbers.get(PeerId("b"), -1) + 1, facts=BidderFacts(source="net b"))
        case _:
            market.wait(int(step))


@given(st.lists(st.sampled_from(["joins", "declines", "bids", "100", "1000", "30000"]), max_size=12))
def test_until_it_has_answered_a_lone_provider_hears_the_same_whether_or_not_it_is_checked(taken: list[str]) -> None:
    heard = []
    for is_checked in (False, True):
        market = lone(_seed(check=is_checked))
        assert any(isinstance(event, CopyCalled) for event in market.log) is is_checked
        for step in taken:
            steps(market, step)
        asked = [effect.request for effect in market.all_effects if isinstance(effect, Announce)]
        told = [type(e.message) for e in market.all_effects if isinstance(e, Send) and e.peer == "a"]
        heard.append((asked, told))

    assert heard[0] == heard[1]


def test_a_check_for_which_nobody_had_bid_is_asked_for_when_the_answer_is_there() -> None:
    market = lone(_seed(check=True))
    market.wait(MINUTE)
    assert market.called() == []

    answers(market, "a")
    assert market.called() == [1]
    opened(market, "a", "b", streaks={"b": TRUSTED})
    answers(market, "b")

    (judged,) = verdicts(market)
    assert {answer.provider for answer in judged.right} == {"a", "b"}


def test_two_addresses_of_a_private_network_do_not_vote_apart() -> None:
    market = requester(Policy.REPLICATE, apart=Apart.SOURCES).submit("a", "b", "c")
    for peer, source in (("a", "192.168.1.7"), ("b", "10.9.8.7"), ("c", "8.8.8.0/24")):
        market.bid(peer, facts=BidderFacts(source=source))
    market.wait(market.terms.window_ms)
    acknowledged(market)
    assert len(held(market)) == 2
    assert "c" in held(market)
