"""What strangers can make the offer book remember: bids, standing requests, repeats and written declines are bounded, whoever is invented."""

from __future__ import annotations

from functools import reduce

import msgspec

from dms_proto.capability import Capability, Resources
from dms_proto.ids import PeerId
from dms_proto.machine import Blame, Transient
from dms_proto.market.offer_book import COMMIT_GRACE_MS, LOCK_STEP_MS
from dms_proto.market.offer_fold import MAX_REMEMBERED, evolve
from dms_proto.market.offer_judgement import MAX_OPEN_BIDS, MAX_OPEN_BIDS_EACH
from dms_proto.market.offer_state import OWNER_HOLD, CommitHeard, HoldWished, OfferBook, RequestHeard
from dms_proto.messages import Commit, CommitAck, CommitRefused, Decline
from dms_proto.rules import MAX_STANDING
from dms_proto.sim.provider import MACHINE, ME, Provider, request
from dms_proto.units import CORE, GIB, MINUTE
from dms_proto.wire import Offence
from dms_proto.wire.scores import MUTE_AT, POINTS

HUGE = msgspec.structs.replace(MACHINE, resources=Resources(10_000 * CORE, 10_000 * GIB))
SMALL = Capability(resources=Resources(1), relayed=True, max_wall_ms=MINUTE)


def dimensions(declined: Decline) -> list[tuple[str, bool]]:
    return [(clause.dimension, clause.passing) for clause in declined.clauses]


def test_one_requester_has_so_many_bids_open_and_is_told_so_and_others_are_bid_to() -> None:
    provider = Provider(HUGE)
    first = provider.bids(request("0", needs=SMALL))
    for number in range(1, MAX_OPEN_BIDS_EACH):
        provider.bids(request(str(number), needs=SMALL))

    assert dimensions(provider.declines(request("more", needs=SMALL))) == [("open_bids", True)]
    provider.bids(request("another's", needs=SMALL), requester="b")

    provider.is_released(first)
    assert len(provider.state.ledger.locks) == MAX_OPEN_BIDS_EACH + 1  # what was declined had stood, and is bid on now
    provider.check()


def test_all_requesters_together_have_so_many_bids_open() -> None:
    provider = Provider(HUGE)
    for number in range(MAX_OPEN_BIDS):
        provider.bids(request(str(number), needs=SMALL), requester=f"invented {number}")

    assert dimensions(provider.declines(request("more", needs=SMALL), requester="honest")) == [("open_bids", True)]
    assert len(provider.state.ledger.locks) == MAX_OPEN_BIDS


def test_a_requester_with_hundreds_of_standing_requests_does_not_push_out_another_one_s() -> None:
    provider = Provider()
    provider.tell(HoldWished(OWNER_HOLD, MACHINE.resources))
    honest = request("honest", stands_ms=1_000)  # it would be the first to end
    provider.declines(honest, requester="honest")
    for number in range(2 * MAX_STANDING):
        provider.declines(request(str(number)))

    assert len(provider.state.standing) == MAX_STANDING
    assert provider.state.forgotten == MAX_STANDING + 1
    assert (PeerId("honest"), honest.request_id) in provider.state.standing


def test_invented_requesters_do_not_grow_the_tables_of_repeats() -> None:
    provider = Provider()
    for number in range(MAX_REMEMBERED + 100):
        provider.declines(request(str(number), cores=1_000), requester=f"invented {number}")

    assert len(provider.state.rounds) == MAX_REMEMBERED
    assert len(provider.state.standing) == 0


def test_past_its_log_budget_a_stranger_is_declined_and_told_so_and_nothing_is_written_down() -> None:
    provider = Provider()
    written = len(provider.log)

    provider.tell(RequestHeard(PeerId("a"), request(), may_write=False))
    (declined,) = provider.sent(Decline)
    assert dimensions(declined) == [("log_budget", True)]
    assert all(isinstance(event, Transient) for event in provider.events)
    provider.tell(RequestHeard(PeerId("a"), request(), may_write=False))
    assert provider.sent(Decline) == []
    assert len(provider.log) == written
    provider.check()


def test_past_its_log_budget_a_stranger_still_hears_every_other_reason() -> None:
    provider = Provider()
    provider.tell(RequestHeard(PeerId("a"), request(cores=1_000), may_write=False))
    (declined,) = provider.sent(Decline)
    assert dimensions(declined) == [("log_budget", True), ("cpu", False), ("price", False)]


def test_a_request_past_the_log_budget_does_not_stand() -> None:
    provider = Provider()
    provider.tell(HoldWished(OWNER_HOLD, MACHINE.resources))
    provider.tell(RequestHeard(PeerId("a"), request(), may_write=False))
    provider.tell(HoldWished(OWNER_HOLD, Resources()))
    assert not provider.state.standing
    assert not provider.state.ledger.locks


def test_a_bid_binds_although_its_requester_is_past_its_log_budget_by_now() -> None:
    provider = Provider()
    bid = provider.bids(request())
    provider.tell(CommitHeard(PeerId("a"), provider.commit_of(bid), may_write=False))
    assert len(provider.sent(CommitAck)) == 1


def test_refused_commits_past_the_log_budget_are_answered_and_not_written_down() -> None:
    provider = Provider()
    bid = provider.bids(request())
    written = len(provider.log)
    for _ in range(100):
        provider.tell(CommitHeard(PeerId("thief"), provider.commit_of(bid), may_write=False))
        assert len(provider.sent(CommitRefused)) == 1
    assert len(provider.log) == written


def test_invented_commits_leave_nothing_behind() -> None:
    provider = Provider()
    before, written = provider.state, len(provider.log)
    for number in range(100):
        asked = request(str(number))
        provider.tell(CommitHeard(PeerId("a"), Commit(asked.request_id, "f" * 64, (0,))))  # type: ignore[arg-type]
    assert provider.state == before
    assert len(provider.log) == written


def test_who_lets_bids_expire_is_blamed_once_for_those_of_one_time() -> None:
    provider = Provider()
    for name in ("r", "s"):
        valid_until = provider.bids(request(name)).valid_until
    provider.bids(request("t"), requester=ME)
    provider.wait(valid_until + COMMIT_GRACE_MS - provider.now)
    assert provider.wanted(Blame) == [Blame(PeerId("a"), Offence.VANISHED)]


def run_out(bids: int) -> int:
    """Points of one that is here and lets so many bids run out together."""
    provider = Provider(HUGE)
    for number in range(bids):
        valid_until = provider.bids(request(str(number), needs=SMALL)).valid_until
    provider.wait(valid_until + COMMIT_GRACE_MS - provider.now)
    blames = provider.wanted(Blame)
    assert [blame.if_here for blame in blames] == [False] + [True] * (len(blames) - 1)
    return sum(POINTS[blame.offence] for blame in blames)


def test_who_is_here_and_lets_many_bids_run_out_is_muted_at_once_and_who_lets_a_few_is_not() -> None:
    assert run_out(4) == run_out(1) == POINTS[Offence.VANISHED]
    assert run_out(8) < MUTE_AT
    assert run_out(9) >= MUTE_AT


def test_bids_that_were_made_within_a_moment_run_out_together() -> None:
    provider = Provider()
    provider.wait(1)
    first = provider.bids(request("r")).valid_until
    provider.wait(LOCK_STEP_MS // 2)
    provider.bids(request("s"))
    (expires_at,) = {lock.expires_at for lock in provider.state.ledger.locks.values()}
    assert first + COMMIT_GRACE_MS <= expires_at <= first + COMMIT_GRACE_MS + LOCK_STEP_MS


def test_who_takes_or_releases_bids_is_not_blamed() -> None:
    provider = Provider()
    provider.commits(provider.bids(request("r")))
    provider.is_released(provider.bids(request("s")))
    provider.wait(MINUTE)
    assert provider.wanted(Blame) == []


def test_a_request_that_stood_and_is_turned_away_later_does_not_stand_again_after_a_restart() -> None:
    provider = Provider()
    provider.tell(HoldWished(OWNER_HOLD, MACHINE.resources))
    provider.tell(RequestHeard(PeerId("a"), request()))
    assert provider.state.standing
    provider.tell(RequestHeard(PeerId("a"), request(round=1), may_write=False))
    assert not provider.state.standing
    again = reduce(evolve, (event for event in provider.log if not isinstance(event, Transient)), OfferBook(ME))
    assert not again.standing
