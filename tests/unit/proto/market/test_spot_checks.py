"""Spot checks as requests: who is checked, what is asked, what the requester's own clock finds, and what follows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dms_proto.capability import ExecutorOffer, Price
from dms_proto.ids import Digest, PeerId, RequestId, bid_id, digest_of
from dms_proto.market.auction_effects import Announce
from dms_proto.market.auction_events import AwardMade, BenchmarkChecked
from dms_proto.market.auction_stimuli import PeerLost, PeerThere, Restarted
from dms_proto.market.candidates import Candidate
from dms_proto.market.seen import seen_in
from dms_proto.market.spot_checks import (
    START_ALLOWANCE_MS,
    Benchmarks,
    answered,
    awarded_in,
    check_terms,
    is_checkable,
    seed_of,
)
from dms_proto.messages import BidRequest, Commit, Phase, Pricing
from dms_proto.reputation import Kind
from dms_proto.sim.requester import NEVER, OFFER, REQUEST, Requester, terms
from dms_proto.units import CORE, MINUTE
from dms_proto.verification.policy import Policy, Verification
from dms_proto.verification.spot_check import APART_MS, SHORT_IN_A_ROW, SpotChecks
from dms_proto.verification.spot_work import TARGET_MS, arguments
from dms_proto.work import Ending, EndReason

PEER = PeerId("a")
ANSWER = digest_of(b"the answer\n")
BESIDE = terms(request_id=RequestId("r-beside"), seed=b"secret of the request")
OFFERED = msgspec.structs.replace(OFFER, executors=(ExecutorOffer("sandbox"),))
MOST = 1_000
NOTHING = SpotChecks()


def candidate(**changed: Any) -> Candidate:
    offer = msgspec.structs.replace(OFFERED, **changed.pop("offer", {}))
    return Candidate(bid_id(REQUEST, PEER, 0), PEER, offer, Price(), 100, **changed)


def checking(before: SpotChecks = NOTHING) -> Requester:
    """A check of "a", which claims to be as fast as the reference core, taken by it and acknowledged."""
    made = answered(check_terms(BESIDE, candidate(), before, MOST), ANSWER)
    market = Requester(**{name: getattr(made, name) for name in made.__struct_fields__} | {"request_id": REQUEST})
    market.hold("a", offer=OFFERED)
    return market


def runs(market: Requester) -> None:
    market.reports("a", market.state.slots[0].allocation_id, Phase.RUNNING)


def ends(market: Requester, answer: Digest = ANSWER, reason: EndReason = EndReason.COMPLETED) -> BenchmarkChecked:
    code = 0 if reason is EndReason.COMPLETED else 1
    status: dict[str, Any] = {"ending": Ending(reason, code), "log_digests": (answer, Digest(""))}
    market.reports("a", market.state.slots[0].allocation_id, Phase.ENDED, **status)
    (finding,) = (event for event in market.log if isinstance(event, BenchmarkChecked))
    return finding


def kinds(finding: BenchmarkChecked) -> list[Kind]:
    return [kind for _, _, kind in seen_in(finding)]


def test_a_provider_that_is_as_fast_as_it_claims_is_honest() -> None:
    market = checking()
    runs(market)
    market.wait(TARGET_MS)
    finding = ends(market)

    assert (finding.claimed, kinds(finding)) == (1000, [Kind.HONEST])
    assert abs(finding.measured - 1000) < 10
    assert market.reason is EndReason.COMPLETED


def test_one_that_claims_twice_its_score_is_short_and_after_six_in_a_row_overstates() -> None:
    checks, found = SpotChecks(), []
    for _ in range(SHORT_IN_A_ROW):
        market = checking(checks)
        runs(market)
        market.wait(2 * TARGET_MS)
        finding = ends(market)
        checks, found = finding.checks, found + kinds(finding)
        assert abs(finding.measured - 500) < 10

    assert found == [Kind.OVERSTATED]


def test_saying_late_that_it_runs_hides_no_more_than_the_allowance() -> None:
    market = checking()
    market.reports("a", market.state.slots[0].allocation_id, Phase.PREPARING)
    market.wait(2 * TARGET_MS - 1)
    runs(market)
    market.wait(1)
    finding = ends(market)

    assert finding.measured <= 1000 * TARGET_MS // (2 * TARGET_MS - START_ALLOWANCE_MS)
    assert finding.checks.short == 1


def test_the_time_is_this_node_s_own_and_not_what_the_provider_says_of_its_use() -> None:
    market = checking()
    runs(market)
    market.wait(2 * TARGET_MS)
    assert market.state.slots[0].usage.wall_ms == 0
    assert ends(market).checks.short == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (digest_of(b"made up\n"), EndReason.COMPLETED),
        (ANSWER, EndReason.EXIT_NONZERO),
        (ANSWER, EndReason.KILLED_BY_SIGNAL),
    ],
)
def test_who_gives_another_answer_or_lets_the_program_fail_has_done_nothing(answer: Digest, reason: EndReason) -> None:
    market = checking()
    runs(market)
    market.wait(10)
    finding = ends(market, answer, reason)

    assert (finding.measured, finding.checks.short, kinds(finding)) == (0, 1, [])


def test_what_was_stopped_for_its_time_was_slower_yet() -> None:
    market = checking()
    runs(market)
    market.wait(5 * TARGET_MS)
    finding = ends(market, Digest(""), EndReason.WALL_TIME)

    assert abs(finding.measured - 200) < 10
    assert finding.checks.short == 1


def test_a_machine_without_python_has_not_been_measured() -> None:
    before = SpotChecks(short=2, at=5)
    market = checking(before)
    finding = ends(market, Digest(""), EndReason.BAD_PROGRAM)

    assert (finding.checks, finding.measured, kinds(finding)) == (before, 0, [])
    assert finding.why


@pytest.mark.parametrize("gone", [PeerLost(PEER), PeerLost(PEER, ours=True), Restarted()])
def test_nothing_follows_from_a_time_in_which_the_provider_could_not_be_heard(gone: Any) -> None:
    market = checking()
    runs(market)
    market.wait(TARGET_MS)
    market.tell(gone)
    market.tell(PeerThere(PEER))
    market.wait(TARGET_MS)
    finding = ends(market)

    assert (finding.checks, kinds(finding)) == (SpotChecks(), [])
    assert "lost" in finding.why


def test_a_provider_that_does_not_bid_is_not_measured_and_no_other_is() -> None:
    made = answered(check_terms(BESIDE, candidate(), SpotChecks(), MOST), ANSWER)
    market = Requester(**{name: getattr(made, name) for name in made.__struct_fields__} | {"request_id": REQUEST})
    market.submit("a")
    market.bid("b", offer=OFFERED)
    market.tell(PeerThere(PeerId("c")))
    while market.reason is None:
        market.declines("a", NEVER)
        market.wait(MINUTE)
        market.asks("a")

    (finding,) = (event for event in market.log if isinstance(event, BenchmarkChecked))
    assert not market.sent_ever(Commit)
    assert not market.sent_ever(BidRequest)
    assert (finding.measured, finding.checks, kinds(finding)) == (0, SpotChecks(), [])
    assert finding.why


def test_the_finding_is_written_once_and_follows_from_the_log() -> None:
    market = checking()
    runs(market)
    market.wait(TARGET_MS)
    finding = ends(market)

    assert market.restart().finding == finding
    assert market.log.count(finding) == 1


def test_nothing_in_what_is_asked_for_says_what_is_measured_before_the_commit() -> None:
    market = checking()
    (asked,) = (effect.request for effect in market.all_effects if isinstance(effect, Announce))
    assert (asked.count, asked.max_price) == (1, MOST)
    (commit,) = market.sent_ever(Commit)
    (task,) = commit.invocations
    assert task.command[1:] == arguments(seed_of(BESIDE, PEER), market.state.terms.spot_check.rounds)  # type: ignore[union-attr]


def test_the_work_follows_from_the_secret_and_the_same_award_is_checked_once() -> None:
    made = check_terms(BESIDE, candidate(), SpotChecks(), MOST)
    other = check_terms(msgspec.structs.replace(BESIDE, seed=b"another"), candidate(), SpotChecks(), MOST)

    assert made == check_terms(BESIDE, candidate(), SpotChecks(), MOST)
    assert made.task.command != other.task.command
    assert made.request_id not in (BESIDE.request_id, other.request_id)


def test_a_check_is_paid_by_its_bid_however_the_job_beside_it_is_paid() -> None:
    beside = msgspec.structs.replace(
        BESIDE, pricing=Pricing.SECOND_PRICE, verify=Verification(Policy.REPLICATE), count=3
    )
    made = check_terms(beside, candidate(), NOTHING, MOST)

    assert (made.pricing, made.verify, made.count) == (Pricing.FIRST_PRICE, Verification(), 1)
    assert made == check_terms(BESIDE, candidate(), NOTHING, MOST)


def test_only_a_claim_of_another_node_that_a_sandbox_can_prove_is_checked() -> None:
    assert is_checkable(BESIDE, candidate())
    assert not is_checkable(BESIDE, candidate(own=True))
    assert not is_checkable(BESIDE, candidate(offer={"cpu_score": 0}))
    assert not is_checkable(BESIDE, candidate(offer={"executors": (ExecutorOffer("wasm"),)}))
    scant = msgspec.structs.replace(OFFER.resources, cpu_millicores=CORE - 1)
    assert not is_checkable(BESIDE, candidate(offer={"resources": scant}))
    assert not is_checkable(check_terms(BESIDE, candidate(), SpotChecks(), MOST), candidate())


def test_two_checks_of_one_provider_are_apart_whatever_became_of_the_first() -> None:
    known = Benchmarks()
    now = 10 * APART_MS
    assert known.is_due(BESIDE, candidate(), now)

    known.sent(PEER, now)
    assert not known.is_due(BESIDE, candidate(), now + APART_MS - 1)
    assert known.is_due(BESIDE, candidate(), now + APART_MS)

    known.note(BenchmarkChecked(PEER, 1000, 500, now + 5, SpotChecks(short=1, at=now + 5)))
    assert not known.is_due(BESIDE, candidate(), now + APART_MS)
    assert known.is_due(BESIDE, candidate(), now + 5 + APART_MS)


def test_what_was_found_of_a_provider_goes_with_it_to_its_new_name() -> None:
    known = Benchmarks()
    finding = BenchmarkChecked(PEER, 1000, 500, 5, SpotChecks(short=1, at=5))
    known.note(finding)
    known.inherit(PEER, PeerId("heir"))

    assert known.before(PeerId("heir")) == finding.checks
    assert known.before(PEER) == SpotChecks()


def test_who_was_awarded_something_is_told_by_the_award() -> None:
    market = Requester(bids_wanted=2).submit("a", "b")
    market.hold("a", "b")
    (award,) = (event for event in market.log if isinstance(event, AwardMade))
    assert [taken.provider for taken in awarded_in(award)] == [market.winner]
