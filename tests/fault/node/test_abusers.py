"""Peers that mean harm, against an honest pair under a clock of our own: the offender is muted, the pair is served, and time forgives.

`make attack` measures the same against whole nodes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from dms.testing.guest import Guest
from dms.testing.honest_pair import HonestPair
from dms.testing.seeded_market import SeededNode
from dms_actors.events import from_row
from dms_proto.capability import Capability, ExecutorOffer, Price, Resources
from dms_proto.ids import PeerId, allocation_id, bid_id, digest_of, request_id
from dms_proto.market.agreement import agreement_on, terms_digest
from dms_proto.market.auction_events import CommitFailed
from dms_proto.messages import AnyMessage, Bid, BidRequest, Clause, Commit, CommitAck, Decline
from dms_proto.reputation.rounds import BORNE
from dms_proto.reputation.silence import FIRST_PAUSE_MS, SOURCE_STRIKES
from dms_proto.units import MIB, MINUTE, SECOND
from dms_proto.wire.scores import HALF_LIFE_MS

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def pair() -> HonestPair:
    return HonestPair()


def asking(number: int) -> BidRequest:
    """A request for hardly anything."""
    needs = Capability(resources=Resources(10, MIB), executors=(ExecutorOffer("seeded"),), max_wall_ms=MINUTE)
    id_ = request_id(number.to_bytes(16, "big"))
    return BidRequest(id_, 0, needs, 1, 1, 2**32, 10**9, 250, 0)


def is_heard_again(pair: HonestPair, guest: Guest) -> bool:
    """Whether a muted guest is bid to after its time."""
    pair.pass_time(HALF_LIFE_MS)
    guest.connect(pair.provider)
    guest.say(pair.provider, guest.hello())
    guest.say(pair.provider, asking(10_000))
    pair.pass_time(SECOND)
    bid = guest.last(Bid)
    return bid is not None and bid.request_id == asking(10_000).request_id


def test_who_asks_and_vanishes_is_muted_and_forgiven(pair: HonestPair) -> None:
    """Every bid holds capacity until it expires: the guest takes none and releases none."""
    guest = pair.guest()
    for number in range(4):
        guest.say(pair.provider, asking(number))
        pair.pass_time(12 * SECOND)
        assert pair.works()
    assert "banned" in guest.goodbyes
    assert not pair.node().book.state.ledger.locks
    assert is_heard_again(pair, guest)


@pytest.mark.parametrize(("bids", "stays", "is_muted"), [(4, True, False), (9, True, True), (9, False, False)])
def test_who_is_there_and_lets_many_bids_run_out_together_is_muted_for_it(
    pair: HonestPair, bids: int, stays: bool, is_muted: bool
) -> None:
    """A few may be those of a requester that was busy, and all of them those of one that was cut off: it is heard when it is back."""
    guest = pair.guest(greets=False)
    for number in range(bids):
        guest.say(pair.provider, asking(number))
    pair.pass_time(SECOND)
    assert len([said for said in guest.heard if isinstance(said, Bid)]) == bids
    apart = frozenset((guest.peer, pair.provider.signer.peer_id))
    if not stays:
        pair.market.fabric.cuts.add(apart)
        guest.leave(pair.provider)
    pair.pass_time(12 * SECOND)
    assert ("banned" in guest.goodbyes) == is_muted
    if not stays:
        pair.market.fabric.cuts.remove(apart)
        guest.connect(pair.provider)
        guest.say(pair.provider, asking(bids))
        pair.pass_time(SECOND)
        bid = guest.last(Bid)
        assert bid is not None
        assert bid.request_id == asking(bids).request_id


def test_who_commits_and_abandons_is_muted_and_forgiven(pair: HonestPair) -> None:
    """Each commit reserves capacity for work that never comes."""
    guest = pair.guest()

    def commit(_peer: PeerId, said: AnyMessage) -> None:
        if isinstance(said, Bid) and said.request_id != asking(10_000).request_id:
            needs = asking(0).needs
            meant = agreement_on(said, needs, guest.peer, pair.provider.signer.peer_id, (0,))
            guest.say(pair.provider, Commit(said.request_id, said.bid_id, (0,), terms=terms_digest(meant)))

    guest.on_heard = commit
    for number in range(5):
        guest.say(pair.provider, asking(number))
        pair.pass_time(SECOND)
    pair.pass_time(12 * SECOND)
    assert "banned" in guest.goodbyes
    assert pair.works()
    assert not pair.node().book.state.ledger.reservations
    assert is_heard_again(pair, guest)


RICH = Capability(Resources(64_000, 64 * MIB * 1024, 0), executors=(ExecutorOffer("seeded"),), max_wall_ms=MINUTE)


Answer = Callable[[Guest, Commit], AnyMessage | None]


def silence(_guest: Guest, _commit: Commit) -> None:
    """It bids and vanishes."""


def acknowledgement(_guest: Guest, commit: Commit) -> CommitAck:
    """It says yes, and nothing more."""
    ids = tuple(allocation_id(commit.bid_id, slot) for slot in commit.slots)
    return CommitAck(commit.request_id, commit.bid_id, ids, terms=commit.terms)


def about_another(guest: Guest, commit: Commit) -> CommitAck:
    """It says yes in time, to a request that it was not asked by."""
    return msgspec.structs.replace(acknowledgement(guest, commit), request_id=asking(20_000).request_id)


def to_other_terms(guest: Guest, commit: Commit) -> CommitAck:
    """It says yes in time, to what nobody has committed."""
    return msgspec.structs.replace(acknowledgement(guest, commit), terms=digest_of(b"other terms"))


def bidder(pair: HonestPair, answer: Answer = silence, remote: str = "30.0.0.1") -> Guest:
    """A provider that bids next to nothing on whatever it is asked, and answers the commits to its bids as it likes."""
    guest = Guest(pair.market, remote)

    def bid(peer: PeerId, said: AnyMessage) -> None:
        node = next(one for one in (pair.requester, pair.provider) if one.signer.peer_id == peer)
        if isinstance(said, BidRequest):
            guest.say(node, bid_on(said, guest.peer, RICH, pair.now))
        elif isinstance(said, Commit) and (told := answer(guest, said)) is not None:
            guest.say(node, told)

    guest.on_heard = bid
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello(summary=RICH))
    pair.pass_time(SECOND)
    return guest


def bid_on(asked: BidRequest, by: PeerId, offer: Capability, now: int) -> Bid:
    return Bid(
        request_id=asked.request_id,
        round=asked.round,
        number=asked.round,
        bid_id=bid_id(asked.request_id, by, asked.round),
        offer=msgspec.structs.replace(offer, price=Price(), cpu_score=1_000_000),
        slots=1,
        tariff=Price(),
        price=0,
        valid_until=now + 10_000,
        valid_ms=10_000,
    )


def commits(guest: Guest) -> int:
    return sum(isinstance(said, Commit) for said in guest.heard)


def let_down(pair: HonestPair, guest: Guest) -> None:
    """Jobs until a guest has let one down; it need not be the first, since bids that are close take turns."""
    for _ in range(30):
        assert pair.works()
        if commits(guest):
            return
    raise AssertionError("30 jobs went elsewhere")


def job_takes(pair: HonestPair) -> int:
    """Milliseconds."""
    began = pair.now
    assert pair.works()
    return pair.now - began


@pytest.mark.parametrize("answer", [silence, acknowledgement, about_another, to_other_terms])
def test_a_newcomer_that_lets_one_job_down_is_given_no_other_and_after_a_while_it_is(
    pair: HonestPair, answer: Answer
) -> None:
    """It won every auction, and every job waited for it until its time for an answer was over."""
    guest = bidder(pair, answer)
    let_down(pair, guest)
    for _ in range(5):
        assert pair.works()
    assert commits(guest) == 1

    assert is_set_aside(pair, guest)
    pair.pass_time(FIRST_PAUSE_MS)
    assert not is_set_aside(pair, guest)


@pytest.mark.parametrize("answer", [silence, acknowledgement])
def test_it_is_muted_within_two_seconds_of_the_first_job_that_it_let_down(pair: HonestPair, answer: Answer) -> None:
    """While that job still waits for it."""
    guest = bidder(pair, answer)
    while not commits(guest):
        pair.market.submit(pair.requester)
        pair.pass_time(SECOND // 10)
    pair.pass_time(SECOND)
    before = commits(guest)
    for _ in range(5):
        assert pair.works()
    assert commits(guest) == before


@pytest.mark.parametrize(("answer", "most_ms"), [(silence, 2 * SECOND), (acknowledgement, 5 * SECOND)])
def test_the_job_that_it_let_down_is_done_elsewhere_soon(pair: HonestPair, answer: Answer, most_ms: int) -> None:
    guest = bidder(pair, answer)
    while not commits(guest):
        took = job_takes(pair)
    assert took < most_ms


def test_a_word_in_the_end_and_it_is_trusted_again(pair: HonestPair) -> None:
    """A provider that was cut off for a moment has the commit still, and answers it."""
    late: list[CommitAck] = []
    guest = bidder(pair, lambda guest, commit: late.append(acknowledgement(guest, commit)))
    let_down(pair, guest)
    assert is_set_aside(pair, guest)
    guest.say(pair.requester, late[0])
    pair.pass_time(SECOND)
    assert not is_set_aside(pair, guest)


def test_who_is_asked_and_never_answers_is_waited_for_a_few_times_and_again_once_it_answers(pair: HonestPair) -> None:
    """Each job waited for it to the end of its window."""
    guest = Guest(pair.market, "30.0.0.1")
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello(summary=RICH))
    pair.pass_time(SECOND)
    took = [job_takes(pair) for _ in range(BORNE + 3)]
    window_ms = asking(0).wait_ms
    assert min(took[:BORNE]) > window_ms > max(took[BORNE:])
    assert sum(isinstance(said, BidRequest) for said in guest.heard) >= len(took), "it is asked all the same"
    shown = pair.node(pair.requester)._shown(clock_of(pair.requester))
    assert shown.unanswered.keys() == {guest.peer}

    guest.on_heard = lambda _peer, said: decline(pair, guest, said)
    job_takes(pair)
    assert pair.node(pair.requester)._shown(clock_of(pair.requester)).unanswered == {}
    guest.on_heard = lambda _peer, _said: None
    assert job_takes(pair) > window_ms


def decline(pair: HonestPair, guest: Guest, said: AnyMessage) -> None:
    if isinstance(said, BidRequest):
        guest.say(pair.requester, Decline(said.request_id, said.round, (Clause("cpu", "1 core", "none", ""),)))


def clock_of(node: SeededNode) -> int:
    assert node.runtime is not None
    return node.runtime.clock()


def is_set_aside(pair: HonestPair, guest: Guest) -> bool:
    return guest.peer in pair.node(pair.requester)._shown(clock_of(pair.requester)).set_aside


def test_who_goes_away_when_it_has_won_is_set_aside_when_it_is_back(pair: HonestPair) -> None:
    """Each job waited for it until it went, and it never was silent for long enough."""
    guest = bidder(pair, lambda guest, _commit: guest.leave(pair.requester))
    let_down(pair, guest)
    guest.connect(pair.requester)
    guest.say(pair.requester, guest.hello(summary=RICH))
    pair.pass_time(SECOND)
    for _ in range(5):
        assert pair.works()
    assert commits(guest) == 1


def test_who_is_set_aside_is_taken_where_there_is_nobody_else(pair: HonestPair) -> None:
    """So that a provider of which a node thinks wrongly costs a job time, and not its end."""
    guest = bidder(pair)
    let_down(pair, guest)
    pair.part()
    pair.market.submit(pair.requester)
    pair.pass_time(5 * SECOND)
    assert commits(guest) > 1


def silent_winners(pair: HonestPair) -> int:
    rows = (row for row in pair.requester.machine.log.events if row.kind == CommitFailed.__name__)
    return sum(isinstance(event, CommitFailed) and event.why.startswith("silent") for event in map(from_row, rows))


def test_a_crowd_of_newcomers_at_one_source_lets_no_more_jobs_down_than_a_few(pair: HonestPair) -> None:
    for number in range(20):
        bidder(pair, remote=f"30.0.0.{number}")
    began = pair.now
    while pair.now - began < FIRST_PAUSE_MS // 2:
        assert pair.works()
    assert silent_winners(pair) == SOURCE_STRIKES


def test_a_crowd_that_comes_and_goes_does_not_make_an_honest_peer_forgotten_or_unserved(pair: HonestPair) -> None:
    """An eclipse attempt by 600 identities of one source, while the pair is cut apart."""
    me, other = pair.requester.signer.peer_id, pair.provider.signer.peer_id
    pair.market.fabric.disconnect(me, other)
    for number in range(600):
        guest = Guest(pair.market, f"30.0.0.{number % 256}")
        guest.connect(pair.provider)
        guest.say(pair.provider, guest.hello())
        pair.pass_time(50)
        guest.leave(pair.provider)
        if number % 64 == 0:
            pair.pass_time(SECOND)
    assert me in pair.node().members.state.peers
    pair.market.fabric.connect(me, other)
    pair.pass_time(SECOND)
    assert pair.works()
