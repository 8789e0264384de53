"""The requester's machine, rule by rule: asking, choosing, committing, losers, silence, waiting, giving up."""

import msgspec
import pytest

from dms_proto.ids import Digest, PeerId, allocation_id, bid_id
from dms_proto.machine import Send, TimeCame, Transient
from dms_proto.market.auction import CANCEL_GRACE_MS, resume
from dms_proto.market.auction_attempts import STOPPED
from dms_proto.market.auction_effects import Announce, Conclude, HeardFrom, LetDown
from dms_proto.market.auction_events import (
    AttemptEnded,
    AwardMade,
    CommitFailed,
    RequestAnnounced,
    RequestEnded,
    RequestOpened,
    RequestWaiting,
)
from dms_proto.market.auction_pace import ACK_DOUBLINGS
from dms_proto.market.auction_search import NO_PEERS_GRACE_MS, REMIND_MS, ROUND_BACKOFF_MS
from dms_proto.market.auction_state import (
    MAX_BIDS,
    MAX_BIDS_EACH,
    MAX_NOTED,
    SHARE,
    AuctionPhase,
    SearchPhase,
    SlotPhase,
)
from dms_proto.market.auction_stimuli import (
    AllocationCancelAsked,
    Announced,
    CancelAsked,
    CommitAcked,
    PeerLost,
    PeerThere,
    Submitted,
)
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.offer_judgement import MAX_SLOTS
from dms_proto.market.preferences import Preferences
from dms_proto.market.reach import EVERYBODY
from dms_proto.messages import (
    BidRequest,
    Cancel,
    Clause,
    Commit,
    CommitAck,
    CommitRefusal,
    Invocation,
    Phase,
    Receipt,
    Release,
)
from dms_proto.reputation.silence import SOURCE_STRIKES, SetAside, Word
from dms_proto.sim.requester import BUSY, DEAR, ME, NEVER, REQUEST, UNWELCOME, Requester
from dms_proto.units import MINUTE, SECOND
from dms_proto.work import OWNERS, EndReason, Usage

WINDOW = 250
ACK = 500


# ------------------------------------------------------------------------------------------------------------------ asking


def test_a_submitted_request_is_written_down_and_announced() -> None:
    requester = Requester().submit()

    assert [type(event) for event in requester.events] == [RequestOpened]
    assert requester.called() == [0]


def test_submitting_twice_changes_nothing() -> None:
    requester = Requester().submit("a")
    before = requester.state

    requester.tell(Submitted(requester.terms))

    assert requester.state is before
    assert requester.effects == ()


def test_the_window_closes_when_enough_bids_are_in() -> None:
    requester = Requester(bids_wanted=2).submit("a", "b", "c", "d")

    requester.bid("a")
    assert requester.noted(AwardMade) == []
    requester.bid("b")

    assert len(requester.noted(AwardMade)) == 1


def test_enough_bids_close_it_even_before_the_shell_has_said_whom_it_asked() -> None:
    requester = Requester(bids_wanted=1).submit()

    requester.bid("a")

    assert requester.winner == "a"
    requester.asks("a")
    assert requester.state.round == 0


def test_enough_bids_need_room_for_every_slot() -> None:
    requester = Requester(count=3, bids_wanted=1).submit("a", "b")

    requester.bid("a", slots=2)
    assert requester.noted(AwardMade) == []
    requester.bid("b", slots=1)

    assert sorted(slot.provider for slot in requester.state.slots) == ["a", "a", "b"]


def test_the_window_closes_when_everyone_asked_has_answered() -> None:
    requester = Requester(bids_wanted=5).submit("a", "b")

    requester.declines("b")
    requester.bid("a")

    assert requester.winner == "a"


def test_the_window_closes_when_its_time_is_over() -> None:
    requester = Requester(bids_wanted=5).submit("a", "b")
    requester.bid("a")

    requester.wait(WINDOW - 1)
    assert requester.events == ()
    requester.wait(1)

    assert requester.winner == "a"


def test_nobody_known_is_waited_for_when_all_known_have_answered_and_one_bid() -> None:
    requester = Requester(bids_wanted=5).submit("a", "b", gossip=True, known=2)

    requester.bid("a")
    requester.declines("b")

    assert requester.winner == "a"


def test_whom_gossip_may_still_reach_is_waited_for_before_the_answer_is_no() -> None:
    requester = Requester().submit("a", gossip=True, known=1)

    requester.declines("a", NEVER)
    assert requester.reason is None
    requester.wait(WINDOW)

    assert requester.reason is EndReason.IMPOSSIBLE


def test_an_announcement_told_twice_does_not_open_the_window_anew() -> None:
    requester = Requester().submit("a")
    until = requester.state.window_until
    requester.now += 100

    requester.tell(Announced(0, (PeerId("a"),), False, 1))

    assert requester.state.window_until == until


def test_a_decline_of_an_older_round_does_not_close_the_window() -> None:
    requester = Requester().submit("a", "b")
    requester.declines("a")
    requester.declines("b")
    requester.wait(ROUND_BACKOFF_MS[0])
    requester.asks("a", "b")

    requester.declines("a", round_=0)
    requester.declines("b", round_=0)

    assert requester.state.search is SearchPhase.WINDOW


# ----------------------------------------------------------------------------------------------------------------- choosing


def test_the_better_bid_wins() -> None:
    requester = Requester().submit("a", "b")

    requester.bid("a", price=900)
    requester.bid("b", price=100)

    assert requester.winner == "b"


def test_the_award_holds_all_that_went_into_it() -> None:
    requester = Requester().submit("a", "b")
    requester.bid("a", price=900)
    requester.bid("b", price=100)

    (award,) = requester.noted(AwardMade)

    assert {candidate.provider for candidate in award.decision.candidates} == {"a", "b"}
    assert award.decision.ranking.order[0] == bid_id(REQUEST, PeerId("b"), 0)


def test_an_award_is_read_as_it_was_always_stored() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    bid = requester.bid("a")
    (award,) = requester.noted(AwardMade)

    stored = msgspec.msgpack.encode(award)

    assert msgspec.msgpack.decode(stored)["awards"] == [[bid, [0]]]
    assert msgspec.msgpack.decode(stored, type=AwardMade) == award


def test_a_commit_to_one_slot_carries_its_invocation() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    requester.bid("a")

    (commit,) = requester.sent(Commit, PeerId("a"))

    assert commit.slots == (0,)
    assert [task.environment for task in commit.invocations] == [{"DMS_INDEX": "0", "DMS_COUNT": "1"}]


def test_a_commit_to_several_slots_is_followed_by_invocations() -> None:
    requester = Requester(bids_wanted=1, count=2).submit("a")
    offered = requester.bid("a", slots=2)
    (commit,) = requester.sent(Commit)
    assert commit.invocations == ()

    requester.acks("a", offered)

    assert [i.task.environment["DMS_INDEX"] for i in requester.sent(Invocation, PeerId("a"))] == ["0", "1"]


@pytest.mark.parametrize("changed", [{"price": 1_001}, {"bid_id": bid_id(REQUEST, PeerId("b"), 0)}])
def test_a_bid_that_is_too_dear_or_forged_is_released(changed: dict[str, object]) -> None:
    requester = Requester().submit("a")

    requester.bid("a", **changed)

    assert requester.sent_to(Release) == ["a"]
    assert requester.state.bids == {}


def test_a_repeated_bid_changes_nothing() -> None:
    requester = Requester(bids_wanted=5).submit("a", "b")
    requester.bid("a")
    before = requester.state

    requester.bid("a")

    assert requester.state is before
    assert requester.effects == ()


def test_a_bid_that_comes_again_after_it_was_let_go_is_not_taken() -> None:
    requester = Requester(count=2).submit("a", "b")
    requester.bid("a")
    requester.bid("b")
    first = requester.state.slots[0]
    requester.refuses(first.provider, first.bid_id)
    assert first.provider in requester.sent_to(Release)  # or its capacity would be held until the bid lapses

    requester.bid(first.provider, number=0)

    assert requester.events == ()
    assert requester.state.slots[0].phase is SlotPhase.SEEKING


def test_an_expired_bid_is_not_taken() -> None:
    requester = Requester(bids_wanted=5, window_ms=20_000).submit("a", "b")
    requester.bid("a")

    requester.wait(20_000)

    assert requester.noted(AwardMade) == []


def test_more_bids_than_can_be_kept_are_released() -> None:
    requester = Requester(bids_wanted=10_000).submit("a", "b")
    for number in range(MAX_BIDS):
        requester.bid(f"p{number}", facts=BidderFacts(source=f"net {number}"))

    requester.bid("late")

    assert requester.sent_to(Release) == ["late"]


# ------------------------------------------------------------------------------------------------------- committing, losing


CROWD = BidderFacts(source="30.0.0.0/24")


def silent(requester: Requester, winners: int) -> list[PeerId]:
    """So many winners in a row say nothing; gives who they were."""
    found = []
    for _ in range(winners):
        found.append(requester.winner)
        requester.wait(requester.terms.ack_timeout_ms)
    return found


SLOW = BidderFacts(successes=1, answers_ms=1_800)


def is_still_waited_for(facts: BidderFacts, span: int) -> bool:
    """Whether the only bidder, of whom this is known, may be silent for so long when it has won."""
    requester = Requester(bids_wanted=1).submit("a")
    requester.bid("a", facts=facts)
    requester.wait(span)
    return requester.state.slots[0].phase is SlotPhase.COMMITTING


def test_a_winner_is_given_the_time_that_its_answers_are_known_to_take() -> None:
    assert is_still_waited_for(SLOW, 1_799)
    assert not is_still_waited_for(SLOW, 1_800)


def test_however_slow_it_is_known_to_be_there_is_an_end_to_it_and_it_has_never_less_than_the_setting() -> None:
    least = Requester().terms.ack_timeout_ms
    assert not is_still_waited_for(BidderFacts(successes=1, answers_ms=60_000), least << ACK_DOUBLINGS)
    assert is_still_waited_for(BidderFacts(successes=1, answers_ms=20), least - 1)


def test_a_newcomer_is_given_no_more_than_the_least_however_it_answers() -> None:
    assert not is_still_waited_for(BidderFacts(answers_ms=1_800), Requester().terms.ack_timeout_ms)


def test_the_time_that_an_answer_to_a_commit_took_is_told() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    bid = requester.bid("a")
    requester.wait(120)
    requester.acks("a", bid)
    assert requester.wanted(HeardFrom) == [HeardFrom(PeerId("a"), Word.ANSWER, requester.now, 120)]


def test_when_a_few_newcomers_of_one_source_were_silent_the_others_there_are_tried_last() -> None:
    requester = Requester(bids_wanted=21).submit(*"abcde", known=21)
    for number in range(20):
        requester.bid(f"crowd {number}", price=1, facts=CROWD)
    requester.bid("elsewhere", price=900)

    assert len(set(silent(requester, SOURCE_STRIKES))) == SOURCE_STRIKES
    assert requester.winner == "elsewhere"


ASIDE = BidderFacts(aside=SetAside(2**60, Word.ANSWER, 1))


def unanswered(requester: Requester, *silent: str) -> None:
    """The next round goes to "a" and these, which leave rounds unanswered."""
    asked = tuple(map(PeerId, ("a", *silent)))
    requester.tell(Announced(0, asked, gossiped=False, known=3, unawaited=dict.fromkeys(asked[1:], 5)))


def test_who_never_answers_is_not_waited_for_where_somebody_else_bids() -> None:
    requester = Requester(bids_wanted=3)
    requester.tell(Submitted(requester.terms))
    unanswered(requester, "silent", "mute")
    requester.bid("a")

    assert requester.winner == "a"


def test_where_nobody_else_bids_who_never_answers_is_waited_for() -> None:
    requester = Requester(bids_wanted=3)
    requester.tell(Submitted(requester.terms))
    unanswered(requester, "silent", "mute")
    requester.declines("a")
    assert requester.noted(RequestWaiting) == requester.called() == []
    requester.bid("silent")

    assert requester.winner == "silent"


def test_of_those_passed_over_a_few_are_noted() -> None:
    """Silence costs nothing: a crowd of the silent must not fill the log of every job."""
    requester = Requester().submit()
    over = {PeerId(f"silent {number}"): SetAside(1, Word.ANSWER, 1) for number in range(2 * MAX_NOTED)}
    requester.tell(Announced(1, (), gossiped=False, known=1, passed_over=over))

    assert len(requester.noted(RequestAnnounced)[-1].passed_over) == MAX_NOTED


def test_who_is_set_aside_does_not_close_the_window_and_is_taken_in_the_next_round_if_there_is_nobody_else() -> None:
    requester = Requester(bids_wanted=1).submit("a", "b")
    requester.bid("a", facts=ASIDE)
    requester.declines("b", NEVER)
    assert requester.noted(AwardMade) == []
    assert requester.called() == [1]

    requester.asks("a", "b")
    requester.wait(WINDOW)

    assert requester.winner == "a"


def test_where_somebody_else_is_only_busy_it_is_waited_for_before_who_is_set_aside_is_taken() -> None:
    requester = Requester(bids_wanted=1).submit("a", "b")
    requester.bid("a", facts=ASIDE)
    requester.declines("b", BUSY)
    assert requester.noted(RequestWaiting)

    requester.bid("b")

    assert requester.winner == "b"


def test_who_is_set_aside_is_taken_after_everybody_else_whatever_it_bids() -> None:
    requester = Requester(bids_wanted=1, count=2).submit("a", "b")
    requester.declines("b", BUSY)
    requester.wait(ROUND_BACKOFF_MS[0] + WINDOW)
    requester.asks("a", "b")
    requester.bid("a", 1, price=1, slots=2, facts=ASIDE)
    requester.bid("b", 1, price=900)
    requester.wait(WINDOW)

    assert [slot.provider for slot in requester.state.slots] == ["b", "a"]


def test_an_acknowledgement_that_this_node_looks_for_much_too_late_has_its_time_again_and_only_once() -> None:
    requester = Requester(bids_wanted=1).submit("a", "b")
    requester.bid("a")
    requester.now += 3 * ACK
    requester.tell(TimeCame())
    assert requester.noted(CommitFailed) == []
    assert requester.wanted(LetDown) == []

    requester.now += 3 * ACK
    requester.tell(TimeCame())
    assert [failed.provider for failed in requester.noted(CommitFailed)] == ["a"]
    assert len(requester.wanted(LetDown)) == 1


def test_bidders_whose_source_is_not_known_are_tried_one_after_the_other() -> None:
    requester = Requester(bids_wanted=6).submit("a", known=6)
    for number in range(6):
        requester.bid(f"p{number}")

    assert len(set(silent(requester, 5))) == 5


def test_losers_are_kept_until_the_winner_has_acknowledged_and_then_released() -> None:
    requester = Requester().submit("a", "b")
    requester.bid("a", price=900)
    won = requester.bid("b")
    assert requester.sent_to(Release) == []

    requester.acks("b", won)

    assert requester.sent_to(Release) == ["a"]
    assert requester.state.bids == {}


def test_a_silent_winner_costs_one_acknowledgement_timeout_and_the_next_is_taken_at_once() -> None:
    requester = Requester().submit("a", "b")
    silent = requester.bid("a", price=100)
    requester.bid("b", price=900)

    requester.wait(ACK - 1)
    assert requester.winner == "a"
    requester.wait(1)

    assert requester.winner == "b"
    assert requester.sent_to(Commit) == ["b"]
    assert [release.bid_id for release in requester.sent(Release, PeerId("a"))] == [silent]


def test_a_silent_winner_is_told_to_stop_in_case_only_its_answer_was_lost() -> None:
    requester = Requester().submit("a", "b")
    silent = requester.bid("a")
    requester.bid("b", price=900)

    requester.wait(ACK)

    assert [cancel.allocation_id for cancel in requester.sent(Cancel, PeerId("a"))] == [allocation_id(silent, 0)]


PROVEN = BidderFacts(successes=1)


def patience_of(facts: BidderFacts, times: int) -> list[int]:
    """How long a node that bids again and again and never answers is waited for, in milliseconds."""
    requester, waited = Requester(bids_wanted=1).submit("a"), list[int]()
    for number in range(4 * times):
        requester.bid("a", number, facts=facts)
        taken = requester.now
        if requester.sent_to(Commit):
            while not requester.noted(CommitFailed):
                requester.wait(10)
            waited.append(requester.now - taken)
        while not requester.called():
            requester.wait(100)
        requester.asks("a")
    return waited[:times]


def test_who_was_silent_before_is_given_twice_as_long_up_to_eight_times() -> None:
    """What is answered too late has held capacity for nothing: on a busy machine each such round makes the next one later still."""
    assert patience_of(PROVEN, 5) == [ACK, 2 * ACK, 4 * ACK, 8 * ACK, 8 * ACK]


def test_a_newcomer_that_was_silent_before_is_given_no_longer() -> None:
    assert patience_of(BidderFacts(), 3) == [ACK, ACK, ACK]


def test_two_silent_winners_cost_two_timeouts() -> None:
    requester = Requester(bids_wanted=3).submit("a", "b", "c")
    for peer, price in (("a", 100), ("b", 500), ("c", 900)):
        requester.bid(peer, price=price)

    requester.wait(2 * ACK)

    assert requester.winner == "c"


def test_a_refused_commit_takes_the_next_bid_at_once() -> None:
    requester = Requester().submit("a", "b")
    refused = requester.bid("a")
    requester.bid("b", price=900)

    requester.refuses("a", refused, CommitRefusal.EXPIRED)

    assert [event.why for event in requester.noted(CommitFailed)] == ["expired"]
    assert requester.winner == "b"


ON_A_CLUSTER = "nobody is let in to them"


def unfit(requester: Requester, peer: str) -> None:
    """It bids, gets the commit, and sees that the work asks for more than the request did."""
    requester.refuses(peer, requester.bid(peer), CommitRefusal.NEEDS_CHANGED, ON_A_CLUSTER)


def test_who_cannot_run_the_work_itself_has_not_failed_and_is_not_busy() -> None:
    """It was left out of the next round as if it had failed, counted as busy, and asked again for ever."""
    requester = Requester(bids_wanted=1, patience_ms=0).submit("a")
    unfit(requester, "a")
    assert [event.unfit for event in requester.noted(CommitFailed)] == [
        Clause("work", "all that the job's work asks for", ON_A_CLUSTER)
    ]
    assert requester.called() == [1], "others are asked at once"
    requester.asks("a")
    requester.bid("a", number=1)
    assert requester.sent_to(Release) == ["a"]
    for number in range(2, 20):
        if requester.called():
            requester.asks("a")
            requester.bid("a", number=number)
    assert len(requester.sent_ever(Commit)) == 1
    assert requester.reason is EndReason.IMPOSSIBLE
    assert requester.state.ending is not None
    assert ON_A_CLUSTER in requester.state.ending.detail


def test_what_it_has_said_of_the_work_holds_whatever_it_says_of_the_request() -> None:
    requester = Requester(bids_wanted=1).submit("a", "b")
    unfit(requester, "a")
    requester.declines("a", BUSY)
    assert [clause.dimension for clause in requester.state.declines[PeerId("a")]] == ["work"]


def test_another_one_that_can_run_the_work_gets_it() -> None:
    requester = Requester().submit("a", "b")
    refused = requester.bid("a")
    requester.bid("b", price=900)
    requester.refuses("a", refused, CommitRefusal.NEEDS_CHANGED)
    assert requester.winner == "b"


def test_with_no_bid_left_a_new_round_is_called_at_once() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    requester.bid("a")

    requester.wait(ACK)

    assert requester.called() == [1]


def test_who_was_silent_is_left_out_of_the_next_round() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    requester.bid("a")
    requester.wait(ACK)
    requester.asks("a")

    requester.bid("a", number=1)

    assert requester.state.slots[0].phase is SlotPhase.SEEKING


def test_a_late_bid_is_the_next_best_while_a_winner_is_silent() -> None:
    requester = Requester(bids_wanted=1).submit("a", "b")
    requester.bid("a")

    requester.bid("b")
    assert requester.sent_to(Release) == []
    requester.wait(ACK)

    assert requester.winner == "b"


def test_a_bid_that_is_not_needed_any_more_is_released() -> None:
    requester = Requester(bids_wanted=1)
    requester.hold("a")

    requester.bid("b")

    assert requester.sent_to(Release) == ["b"]


def test_an_acknowledgement_that_comes_too_late_is_cancelled() -> None:
    requester = Requester().submit("a", "b")
    silent = requester.bid("a")
    requester.bid("b", price=900)
    requester.wait(ACK)

    requester.acks("a", silent)

    assert [cancel.allocation_id for cancel in requester.sent(Cancel, PeerId("a"))] == [allocation_id(silent, 0)]


def test_an_acknowledgement_by_somebody_else_is_not_believed() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    offered = requester.bid("a")

    requester.acks("b", offered)

    assert requester.state.slots[0].phase is SlotPhase.COMMITTING


def test_an_acknowledgement_of_other_terms_is_none_and_counts_against_the_provider() -> None:
    requester = Requester(bids_wanted=1)
    requester.submit("a", "b")
    offered = requester.bid("a")

    requester.acks("a", offered, terms=Digest("sha256:" + "0" * 64))

    (over,) = requester.noted(AttemptEnded)
    assert (over.provider, over.ending.reason) == ("a", EndReason.PROVIDER_FAULT)
    assert over.ending.detail == "it acknowledged other terms than those of the commit"
    assert [(told.provider, told.word) for told in requester.wanted(LetDown)] == [("a", Word.ANSWER)]
    assert requester.sent(Cancel, PeerId("a")) == [Cancel(REQUEST, allocation_id(offered, 0))]
    assert requester.state.slots[0].phase is SlotPhase.SEEKING
    assert PeerId("a") in requester.state.faulty


def test_an_acknowledgement_of_other_terms_counts_as_much_when_a_status_overtook_it() -> None:
    requester = Requester(bids_wanted=1)
    requester.submit("a", "b")
    offered = requester.bid("a")
    requester.reports("a", allocation_id(offered, 0), Phase.RUNNING)
    assert requester.state.slots[0].phase is SlotPhase.HELD

    requester.acks("a", offered, terms=Digest(""))

    (over,) = requester.noted(AttemptEnded)
    assert over.ending.reason is EndReason.PROVIDER_FAULT
    assert requester.sent_to(Cancel) == ["a"]


def test_what_is_owed_to_one_provider_is_not_confirmed_to_another() -> None:
    requester = Requester(bids_wanted=1)
    requester.submit("a")
    requester.acks("a", requester.bid("a"))
    allocation = requester.state.slots[0].allocation_id
    requester.ends("a", allocation, price=7)

    requester.ends("thief", allocation, price=7)
    assert [receipt.price for receipt in requester.sent(Receipt, PeerId("thief"))] == [0]
    requester.ends("a", allocation, price=7)
    assert [receipt.price for receipt in requester.sent(Receipt, PeerId("a"))] == [7]


def test_an_acknowledgement_twice_changes_nothing() -> None:
    requester = Requester(bids_wanted=1)
    requester.hold("a")
    slot = requester.state.slots[0]

    requester.acks("a", slot.bid_id)

    assert requester.events == ()
    assert requester.effects == ()


# ------------------------------------------------------------------------------------------------------------------ waiting


def test_when_all_are_busy_it_waits_and_says_for_what() -> None:
    requester = Requester().submit("a", "b")
    requester.declines("a")
    requester.declines("b")

    (waiting,) = requester.noted(RequestWaiting)

    assert waiting.why == "2 nodes could do it but are busy"
    assert waiting.next_round_at == requester.now + WINDOW + REMIND_MS


def test_freed_capacity_is_taken_at_once_while_it_waits() -> None:
    requester = Requester(bids_wanted=3).submit("a", "b")
    requester.declines("a")
    requester.declines("b")
    requester.now += 300

    requester.bid("a")

    assert requester.winner == "a"


@pytest.mark.parametrize(("known", "least"), [(2, 0), (1, WINDOW + REMIND_MS)])
def test_it_asks_again_less_and_less_often_and_never_soon_where_everybody_keeps_it(known: int, least: int) -> None:
    requester = Requester().submit("a", known=known)
    calls = []
    for pause in ROUND_BACKOFF_MS:
        requester.declines("a")
        requester.wait(max(pause, least) - 1)
        assert requester.called() == []
        requester.wait(1)
        calls += requester.called()
        requester.asks("a", known=known)

    assert calls == [1, 2, 3, 4, 5, 6]


def test_who_has_yet_to_answer_is_not_asked_again_soon_unless_there_are_others() -> None:
    alone, others = Requester().submit("a"), Requester().submit("a", known=2)
    for requester in (alone, others):
        requester.wait(WINDOW)

    pauses = [
        waiting.next_round_at - alone.now for waiting in (*alone.noted(RequestWaiting), *others.noted(RequestWaiting))
    ]

    assert pauses == [REMIND_MS, ROUND_BACKOFF_MS[0]]


def test_who_is_left_out_of_a_round_is_asked_again_soon_although_it_keeps_the_request() -> None:
    requester = Requester(bids_wanted=1).submit("a")
    requester.bid("a")
    requester.wait(ACK)
    assert requester.noted(CommitFailed)
    requester.asks("a")

    requester.declines("a")

    (waiting,) = requester.noted(RequestWaiting)
    assert waiting.next_round_at == requester.now + ROUND_BACKOFF_MS[0]


def test_capacity_that_never_frees_is_waited_for_as_long_as_was_wished() -> None:
    requester = Requester(queue_ms=7 * SECOND).submit("a")
    requester.declines("a")
    started = requester.now
    while requester.reason is None:
        requester.wait(1)
        if requester.called():
            requester.asks("a")
            requester.declines("a")

    assert requester.reason is EndReason.NO_BIDS
    assert 7 * SECOND <= requester.now - started <= 7 * SECOND + ROUND_BACKOFF_MS[2]


def test_a_node_that_joins_is_asked_at_once() -> None:
    requester = Requester().submit("a")
    requester.declines("a")

    requester.tell(PeerThere(PeerId("b")))

    assert requester.sent_to(BidRequest) == ["b"]
    requester.bid("b")
    assert requester.winner == "b"


def test_a_node_that_has_answered_is_not_asked_again_when_it_comes_back() -> None:
    requester = Requester().submit("a")
    requester.declines("a")

    requester.tell(PeerThere(PeerId("a")))

    assert requester.effects == ()


def test_slots_that_find_no_place_wait_for_the_request_s_own_allocations() -> None:
    requester = Requester(count=2, bids_wanted=1, queue_ms=0).submit("a")
    offered = requester.bid("a", slots=1)

    assert [event.why for event in requester.noted(RequestWaiting)] == [
        "waits for its own other allocations to free capacity"
    ]
    requester.acks("a", offered)
    requester.wait(ROUND_BACKOFF_MS[0])

    assert requester.called() == [1]
    assert requester.reason is None


def test_its_own_freed_capacity_fills_the_slots_that_wait() -> None:
    requester = Requester(count=2, bids_wanted=1).submit("a")
    requester.acks("a", requester.bid("a", slots=1))
    requester.ends("a", requester.state.slots[0].allocation_id)

    offered = requester.bid("a", number=1)

    assert requester.state.slots[1].bid_id == offered


# --------------------------------------------------------------------------------------------------------------- giving up


def test_whom_gossip_may_reach_is_asked_before_the_answer_is_no() -> None:
    requester = Requester().submit("a", "b")
    requester.declines("a", NEVER)
    requester.declines("b", NEVER)

    assert requester.called() == [1]
    assert requester.reason is None


def test_the_impossible_is_explained_at_once() -> None:
    requester = Requester().submit("a", "b", gossip=True)
    requester.declines("a", NEVER)
    requester.declines("b", (*NEVER, *BUSY))
    requester.wait(requester.terms.window_ms)

    (ended,) = requester.noted(RequestEnded)

    assert ended.reason is EndReason.IMPOSSIBLE
    assert ended.detail == "all 2 nodes declined; nearest: gpus 0"
    assert requester.wanted(Conclude) == [Conclude()]


def test_when_only_the_price_stands_in_the_way_it_says_so() -> None:
    requester = Requester().submit("a", "b", gossip=True)
    requester.declines("a", DEAR)
    requester.declines("b", (*NEVER, *DEAR))
    requester.wait(requester.terms.window_ms)

    assert requester.reason is EndReason.PRICE_TOO_LOW
    assert OWNERS[EndReason.PRICE_TOO_LOW] == "budget"
    assert requester.state.ending is not None
    assert "max price 0.02" in requester.state.ending.detail


def test_when_every_owner_s_rules_refuse_it_it_says_so() -> None:
    requester = Requester().submit("a", "b", gossip=True)
    requester.declines("a", UNWELCOME)
    requester.declines("b", (*NEVER, *UNWELCOME))
    requester.wait(requester.terms.window_ms)

    assert requester.reason is EndReason.REFUSED_BY_POLICY
    assert OWNERS[EndReason.REFUSED_BY_POLICY] == "policy"
    assert requester.state.ending is not None
    assert requester.state.ending.detail == (
        "all 2 nodes declined by their owners' rules; nearest: policy: wanted requester.own, observed false"
    )


def test_one_owner_s_rules_are_no_reason_when_another_node_says_something_else() -> None:
    requester = Requester().submit("a", "b", gossip=True)
    requester.declines("a", UNWELCOME)
    requester.declines("b", NEVER)
    requester.wait(requester.terms.window_ms)

    assert requester.reason is EndReason.IMPOSSIBLE


def test_a_budget_is_not_awarded_beyond_and_what_came_cheaper_is_used() -> None:
    requester = Requester(count=3, bids_wanted=1, budget=250).submit("a")
    requester.bid("a", slots=3)
    assert [slot.phase for slot in requester.state.slots] == ["committing", "committing", "seeking"]
    requester.acks("a", requester.state.slots[0].bid_id)
    first, second = (slot.allocation_id for slot in requester.state.slots[:2])
    requester.ends("a", first, price=50)
    requester.wait(2 * SECOND)
    assert requester.wanted(Announce)[-1].request.max_price == 100  # 250, less 50 owed, less 100 at work
    requester.ends("a", second, price=50)
    requester.asks("a")

    requester.bid("a", 1)

    assert requester.state.slots[2].phase == "committing"


def test_what_can_no_more_be_paid_ends_with_the_budget_as_the_reason() -> None:
    requester = Requester(count=2, bids_wanted=1, budget=150).submit("a")
    requester.bid("a", slots=2)
    allocation = requester.acknowledged()
    requester.ends("a", allocation, price=100)
    requester.wait(2 * SECOND)
    requester.asks("a")
    assert requester.state.round == 1
    requester.declines("a", DEAR)

    assert requester.reason is EndReason.BUDGET_SPENT
    assert OWNERS[EndReason.BUDGET_SPENT] == "budget"
    assert requester.state.ending is not None
    assert "of 0.00015 credits, 0.00005 credits, pays" in requester.state.ending.detail
    assert requester.noted(RequestEnded)[0].price == 100


def test_a_budget_of_which_nothing_is_spent_is_only_a_price() -> None:
    requester = Requester(budget=50, max_price=30_000).submit("a", gossip=True)
    requester.declines("a", DEAR)
    requester.wait(requester.terms.window_ms)

    assert requester.reason is EndReason.PRICE_TOO_LOW
    assert said(requester) == (
        "its budget of 0.00005 credits pays for no attempt; the only node declined; nearest: budget 0.02"
    )


def said(requester: Requester) -> str:
    """What its owner reads."""
    assert requester.state.ending is not None
    return requester.state.ending.detail


def test_a_price_above_the_maximum_is_no_matter_of_the_budget() -> None:
    requester = Requester(budget=50).submit("a", gossip=True)
    requester.declines("a", DEAR)
    requester.wait(requester.terms.window_ms)

    assert said(requester).endswith("nearest: max price 0.02")


def little(memory: str) -> tuple[Clause, ...]:
    return (Clause("memory", "64 GiB", memory, f"memory {memory}"),)


@pytest.mark.parametrize(
    ("said_by", "nearest"),
    [
        ({"a": little("512 MiB"), "b": little("1 GiB"), "c": little("256 MiB")}, "memory 1 GiB"),
        (
            {"a": (Clause("price", "", "", "max price 0.003"),), "b": (Clause("price", "", "", "max price 0.002"),)},
            "0.002",
        ),
        ({"a": (*little("1 GiB"), *NEVER), "b": little("1 MiB")}, "memory 1 MiB"),
        (
            {"a": (Clause("wall_time", "", "", "wall time 24h"), Clause("price", "", "", "max price 100"))},
            "nearest: wall time 24h, which lowers the price as well",
        ),
    ],
)
def test_nearest_is_the_node_with_the_fewest_and_the_smallest_changes(
    said_by: dict[str, tuple[Clause, ...]], nearest: str
) -> None:
    requester = Requester().submit(*said_by, gossip=True)
    for peer, clauses in said_by.items():
        requester.declines(peer, clauses)
    requester.wait(requester.terms.window_ms)

    assert said(requester).endswith(nearest)


def test_bids_that_the_job_s_own_constraints_rule_out_are_counted_and_are_nearest() -> None:
    own = Preferences(constraints=("offer.cpu > 100.0",))
    requester = Requester(preferences=own, bids_wanted=3).submit("a", "b", "c", gossip=True)
    requester.declines("a", NEVER)
    requester.bid("b")
    requester.bid("c")
    requester.wait(requester.terms.window_ms)

    assert requester.reason is EndReason.IMPOSSIBLE
    assert said(requester) == (
        "1 node declined, 2 bids were excluded by the job's own constraints; "
        "nearest: without the constraint offer.cpu > 100.0, which is false"
    )


def test_nobody_to_ask_is_not_nought_nodes_that_are_silent() -> None:
    requester = Requester(queue_ms=0).submit("a", gossip=True)
    requester.declines("a", NEVER)
    requester.wait(requester.terms.window_ms)
    assert "0 nodes" not in said(requester)

    gone = Requester(queue_ms=0, patience_ms=10 * SECOND).submit("a", gossip=True)
    gone.declines("a", NEVER)
    gone.wait(gone.terms.window_ms)
    while gone.reason is None:  # in the rounds that follow it takes no work any more
        gone.wait(SECOND)
        for _ in gone.called():
            gone.asks(gossip=True, known=0)
    assert said(gone) == "the only node declined; nearest: gpus 0"


def test_with_patience_the_impossible_is_waited_for() -> None:
    requester = Requester(patience_ms=60 * SECOND).submit("a", gossip=True)

    requester.declines("a", NEVER)
    requester.wait(requester.terms.window_ms)

    assert requester.reason is None
    assert requester.state.search is SearchPhase.WAITING


def test_nobody_there_is_waited_for_a_moment_and_then_said() -> None:
    requester = Requester().submit()
    requester.asks()
    started = requester.now
    while requester.reason is None:
        requester.wait(10)
        if requester.called():
            requester.asks()

    assert requester.reason is EndReason.NO_PEERS
    assert NO_PEERS_GRACE_MS <= requester.now - started <= 2 * NO_PEERS_GRACE_MS


def test_a_node_alone_that_cannot_do_it_itself_waits_a_moment_for_others() -> None:
    requester = Requester().submit(ME, known=1)

    requester.declines(ME, NEVER)
    assert requester.reason is None
    requester.tell(PeerThere(PeerId("a")))

    assert requester.sent_to(BidRequest) == ["a"]


def test_the_answer_is_no_only_when_everybody_was_asked() -> None:
    """Three bids wanted: nine of a hundred are asked first, then 36, then all."""
    requester = Requester(bids_wanted=3).submit("a", known=100)
    asked = []
    for _ in range(3):
        requester.declines("a", NEVER)
        asked += requester.called()
        if requester.called():
            assert requester.wanted_reach() < EVERYBODY or requester.called() == [2]
            requester.asks("a", known=100)

    assert asked == [1, 2]
    assert requester.reason is EndReason.IMPOSSIBLE


def test_silence_of_all_is_waited_for_as_long_as_for_busy_nodes() -> None:
    """Who is connected and silent may be too busy to answer, as a node with hundreds of requests is."""
    requester = Requester(queue_ms=MINUTE).submit("a")
    started = requester.now
    while requester.reason is None:
        requester.wait(10)
        if requester.called():
            requester.asks("a")

    assert requester.reason is EndReason.NO_BIDS
    assert "not answered" in requester.state.ending.detail  # type: ignore[union-attr]
    assert MINUTE <= requester.now - started <= 2 * MINUTE


def test_who_stood_in_waiting_is_told_that_it_is_over() -> None:
    requester = Requester(bids_wanted=1).submit("a", "b")
    requester.declines("b")
    requester.acks("a", requester.bid("a"))

    assert [release.bid_id for release in requester.sent(Release, PeerId("b"))] == [""]


# ----------------------------------------------------------------------------------------------------------------- the end


def test_a_completed_request_says_what_is_owed() -> None:
    requester = Requester(bids_wanted=1)
    allocation = requester.hold("a")

    requester.ends("a", allocation, price=50)

    assert requester.reason is EndReason.COMPLETED
    assert requester.state.ending is not None
    assert requester.state.ending.price == 50
    assert [receipt.price for receipt in requester.sent(Receipt, PeerId("a"))] == [50]


def test_what_comes_after_the_end_changes_nothing_and_is_answered() -> None:
    requester = Requester(bids_wanted=1)
    allocation = requester.hold("a")
    requester.ends("a", allocation)
    over = requester.state

    requester.bid("b")
    assert requester.sent_to(Release) == ["b"]
    requester.acks("a", over.slots[0].bid_id)
    assert requester.effects == ()
    requester.ends("a", allocation)
    assert [receipt.price for receipt in requester.sent(Receipt)] == [50]
    requester.declines("c")

    assert requester.state is over


def test_the_request_ends_when_every_slot_has_and_names_the_first_failure() -> None:
    requester = Requester(count=2, bids_wanted=1, job_failures=1).submit("a")
    requester.acks("a", requester.bid("a", slots=2))
    one, two = (slot.allocation_id for slot in requester.state.slots)

    requester.ends("a", two, EndReason.EXIT_NONZERO)
    assert requester.reason is None
    requester.ends("a", one)

    assert requester.reason is EndReason.EXIT_NONZERO
    assert requester.state.phase is AuctionPhase.ENDED
    assert requester.state.ending is not None
    assert requester.state.ending.price == 100


def test_every_way_to_stop_has_words() -> None:
    assert set(STOPPED) == {EndReason.CANCELLED, EndReason.DEADLINE}


# ----------------------------------------------------------------------------------------------- one allocation cancelled


def test_a_cancelled_allocation_ends_as_cancelled_and_the_others_go_on() -> None:
    requester = Requester(count=2, bids_wanted=1).submit("a")
    requester.hold("a", slots=2)
    first, second = (slot.allocation_id for slot in requester.state.slots)

    requester.tell(AllocationCancelAsked(first))

    assert requester.sent(Cancel) == [Cancel(REQUEST, first)]
    requester.tell(AllocationCancelAsked(first))
    assert requester.events == ()
    requester.ends("a", first, EndReason.CANCELLED)
    assert requester.state.slots[0].ending is not None
    assert requester.state.slots[0].ending.reason is EndReason.CANCELLED
    assert requester.called() == []
    assert requester.reason is None
    requester.ends("a", second)
    assert requester.reason is EndReason.CANCELLED


def test_a_cancelled_allocation_that_ended_well_before_it_heard_of_it_has_ended_well() -> None:
    requester = Requester(bids_wanted=1)
    allocation = requester.hold("a")
    requester.tell(AllocationCancelAsked(allocation))

    requester.ends("a", allocation)

    assert requester.reason is EndReason.COMPLETED


@pytest.mark.parametrize("is_lost", [False, True])
def test_a_cancelled_allocation_whose_provider_is_silent_is_given_up_and_not_tried_elsewhere(is_lost: bool) -> None:
    requester = Requester(bids_wanted=1)
    allocation = requester.hold("a", "b")
    winner = requester.winner
    requester.tell(AllocationCancelAsked(allocation))
    if is_lost:
        requester.tell(PeerLost(winner))

    requester.wait(CANCEL_GRACE_MS)

    assert requester.reason is EndReason.CANCELLED
    requester.reports(winner, allocation, Phase.RUNNING)
    assert requester.sent(Cancel) == [Cancel(REQUEST, allocation)]  # it returns, and is told again


def test_an_allocation_cancelled_before_its_commit_is_answered_does_not_seek_again() -> None:
    for answer in ("acks", "refuses"):
        requester = Requester(bids_wanted=1).submit("a", "b")
        bid = requester.bid("a")
        allocation = requester.state.slots[0].allocation_id
        requester.tell(AllocationCancelAsked(allocation))
        getattr(requester, answer)("a", bid)
        if answer == "acks":
            assert requester.sent(Cancel) == [Cancel(REQUEST, allocation)]
            requester.ends("a", allocation, EndReason.CANCELLED)
        assert requester.reason is EndReason.CANCELLED
        assert requester.state.slots[0].attempts == 1


def test_after_a_restart_the_provider_of_a_cancelled_allocation_is_told_again() -> None:
    requester = Requester(bids_wanted=1)
    allocation = requester.hold("a")
    requester.tell(AllocationCancelAsked(allocation))

    assert resume(requester.restart()) == (Send(PeerId("a"), Cancel(REQUEST, allocation)),)


def test_what_an_allocation_uses_is_known_while_it_runs_and_not_written_down() -> None:
    requester = Requester(bids_wanted=1)
    allocation = requester.hold("a")
    requester.reports("a", allocation, Phase.RUNNING)

    requester.reports("a", allocation, Phase.RUNNING, usage=Usage(wall_ms=700, cpu_us=300))
    requester.reports("a", allocation, Phase.RUNNING, usage=Usage(wall_ms=500, cpu_us=200))  # overtaken

    assert requester.state.slots[0].usage == Usage(wall_ms=700, cpu_us=300)
    requester.reports("a", allocation, Phase.RUNNING, usage=Usage(wall_ms=900, cpu_us=400))
    assert all(isinstance(event, Transient) for event in requester.events)
    assert requester.events


def test_busy_nodes_are_no_answer_for_the_impatient_before_everybody_was_asked() -> None:
    requester = Requester(queue_ms=0, bids_wanted=2).submit("a", "b")
    requester.declines("a")
    requester.declines("b")

    assert requester.called() == [1]
    assert requester.reason is None


def test_one_provider_does_not_close_the_window_with_bids_of_its_own() -> None:
    requester = Requester(bids_wanted=3).submit("h", "b", "c", "d")
    for number in range(3):
        requester.bid("h", number, price=1_000)
    assert not requester.sent_ever(Commit)

    requester.bid("b")
    requester.bid("c")

    assert requester.sent_to(Commit) != ["h"]


def test_bids_of_one_provider_and_of_one_source_leave_room_for_others() -> None:
    requester = Requester(bids_wanted=MAX_BIDS).submit("h", "a")
    for number in range(MAX_BIDS_EACH + 1):
        requester.bid("h", number, facts=BidderFacts(source="8.8.8.0/24"))
    assert requester.sent(Release, PeerId("h"))
    for number in range(MAX_BIDS):
        requester.bid(f"p{number}", facts=BidderFacts(source="8.8.8.0/24"))
    assert len(requester.state.bids) == MAX_BIDS // SHARE

    honest = requester.bid("a", facts=BidderFacts(source="9.9.9.0/24"))

    assert honest in requester.state.bids


@pytest.mark.parametrize("is_over", [False, True])
def test_an_acknowledgement_of_thousands_is_answered_for_as_many_as_a_bid_has_slots(*, is_over: bool) -> None:
    requester = Requester().submit("a")
    if is_over:
        requester.tell(CancelAsked())
    bid = bid_id(REQUEST, PeerId("liar"), 0)
    named = tuple(allocation_id(bid, slot) for slot in range(8_500))
    requester.tell(CommitAcked(PeerId("liar"), CommitAck(REQUEST, bid, named)))
    assert len(requester.sent(Cancel)) == MAX_SLOTS
