"""Why a job runs where it does, or does not run: one verdict for every node known, from what was asked and answered.

The same for a job that was submitted (its story) and for a question without one (a dry run): both come down to an `Inquiry`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from dms.node.story import JobStory
from dms_proto.capability import Price
from dms_proto.ids import BidId, PeerId
from dms_proto.market.admission import ruled_out_whatever_it_bids
from dms_proto.market.auction_events import BidPassedOver, BidReceived, RequestOpened
from dms_proto.market.auction_fold import evolve
from dms_proto.market.auction_messages import bid_request
from dms_proto.market.auction_state import Auction
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import BidderFacts, candidate_of
from dms_proto.market.comparators import choose
from dms_proto.market.explain import Explanation, NodeVerdict, Outcome, explain
from dms_proto.market.impossible import on_budget
from dms_proto.market.named_node import UNREACHABLE
from dms_proto.market.preferences import Preferences
from dms_proto.market.ranking import Ranking
from dms_proto.market.reach import is_within, reach_for
from dms_proto.market.second_price import award_between, by_price_alone, words_of
from dms_proto.membership.machine import Membership, Peer, PeerPhase
from dms_proto.messages import Bid, BidRequest, Clause, Pricing
from dms_proto.reputation.silence import SetAside
from dms_proto.units import format_age, format_count
from dms_proto.work import agents_of


class Reply(msgspec.Struct, frozen=True):
    """What a node said: a bid, or clauses. `note`: what became of it afterwards; `lost`: the node went away with the job."""

    bid: Bid | None = None
    clauses: tuple[Clause, ...] = ()
    facts: BidderFacts = BidderFacts()
    note: str = ""
    lost: bool = False


class Inquiry(msgspec.Struct, frozen=True):
    """A request, whom it reached, and what came back.

    Attributes:
        request: as it was announced.
        preferences: how its bids are compared; what they exclude counts as declined.
        asked: nodes asked by name.
        reached: nodes that gossip may have reached besides.
        answers: by node.
        max_price: micro-credits per allocation, as its owner said; more than the request's own where the budget keeps that down.
        opened_at: of a job that is over, when it was submitted, Unix ms: what is known of who was neither asked nor heard may be of later. Else 0.
        only: the one node that the job names; empty: none.
        passed_over: not asked by name while others could be.
        unawaited: asked, and not waited for while others bid: how many rounds in a row they had left unanswered.
    """

    request: BidRequest
    preferences: Preferences
    asked: frozenset[PeerId]
    reached: frozenset[PeerId]
    answers: Mapping[PeerId, Reply]
    max_price: int = 0
    opened_at: int = 0
    only: PeerId = PeerId("")
    passed_over: Mapping[PeerId, SetAside] = {}
    unawaited: Mapping[PeerId, int] = {}


def opening_request(terms: Terms) -> BidRequest:
    """The request as its first round announces it."""
    return bid_request(evolve(Auction(), RequestOpened(terms, 0)), 0)


def inquiry_of(story: JobStory, membership: Membership) -> Inquiry:
    """What a job's story says of whom it asked and who answered."""
    assert story.terms is not None, "a job begins with RequestOpened"
    terms = story.terms
    request = msgspec.structs.replace(opening_request(terms), round=max(story.round, 0))
    reached = {
        peer.peer
        for peer in membership.peers.values()
        for round_, known in story.gossiped.items()
        if is_within(terms.request_id, peer.peer, reach_for(terms.bids_wanted, max(known, 1), round_))
    }
    answers = {
        peer: _answer(event, story.notes.get(peer, ""), lost=peer in story.lost)
        for peer, event in story.answers.items()
    }
    asked, opened_at = frozenset(story.asked), story.opened_at if story.ended is not None else 0
    return Inquiry(
        request,
        terms.preferences,
        asked,
        frozenset(reached),
        answers,
        terms.max_price,
        opened_at,
        terms.only,
        story.passed_over,
        story.unawaited,
    )


def _answer(event: object, note: str, *, lost: bool) -> Reply:
    if isinstance(event, BidReceived):
        return Reply(bid=event.bid, facts=event.facts, note=note, lost=lost)
    if isinstance(event, BidPassedOver):
        return Reply(clauses=(event.clause,), note="it bids, and was passed over: no more may come to be owed to it")
    return Reply(clauses=getattr(event, "clauses", ()), note=note)


def explanation(inquiry: Inquiry, membership: Membership, now: int, *, is_over: bool = False) -> Explanation:
    """One verdict for each node known: everybody asked or heard from, and every peer of the membership.

    Args:
        inquiry: what was asked and answered.
        membership: who is known.
        now: Unix ms.
        is_over: nobody will be asked any more.
    """
    ranking = _ranked(inquiry)
    excluded = {entry.provider: entry.clauses for entry in ranking.excluded}
    inquiry = _with_price(inquiry, ranking)
    known = dict.fromkeys((*inquiry.asked, *inquiry.answers, *membership.peers))
    verdicts = (_verdict(inquiry, peer, membership.peers.get(peer), excluded, now, is_over=is_over) for peer in known)
    ordered = sorted(verdicts, key=lambda verdict: (_ORDER[verdict.outcome], verdict.price, verdict.peer))
    return explain(inquiry.request, ordered)


_NO_WORK: Final = "it takes no work"
_NOT_BY_NAME: Final = "not asked by name; whether gossip reached it was not noted"
_ANOTHER: Final = "the job names another node"
_PASSED_OVER: Final = "not asked while others could be"
_ENOUGH: Final = "enough others were asked"
_BEYOND: Final = "beyond the reach of the rounds so far; later rounds reach further"
_ORDER = {outcome: number for number, outcome in enumerate(Outcome)}


def _ranked(inquiry: Inquiry) -> Ranking:
    """The bids as they would be compared, those left out that the requester's own conditions rule out."""
    candidates = [
        candidate_of(peer, answer.bid, answer.facts)
        for peer, answer in inquiry.answers.items()
        if answer.bid is not None
    ]
    is_second = inquiry.request.pricing is Pricing.SECOND_PRICE
    preferences = by_price_alone(inquiry.preferences) if is_second else inquiry.preferences
    return choose(inquiry.request, candidates, preferences).ranking


def _with_price(inquiry: Inquiry, ranking: Ranking) -> Inquiry:
    """Of a dry run for a second price, the best bid gets the note what it would be paid; a job's story has that already."""
    if inquiry.request.pricing is not Pricing.SECOND_PRICE or not inquiry.request.dry_run or not ranking.ranked:
        return inquiry
    bids = [(entry.provider, inquiry.answers[entry.provider].bid) for entry in ranking.ranked[:2]]
    (best, bid), *rest = ((peer, bid) for peer, bid in bids if bid is not None)
    award = award_between(bid, best, rest[0] if rest else None, inquiry.request.max_price)
    noted = msgspec.structs.replace(inquiry.answers[best], note=f"would be {words_of(award)}")
    return msgspec.structs.replace(inquiry, answers={**inquiry.answers, best: noted})


def _verdict(
    inquiry: Inquiry,
    peer: PeerId,
    known: Peer | None,
    excluded: Mapping[PeerId, tuple[Clause, ...]],
    now: int,
    *,
    is_over: bool,
) -> NodeVerdict:
    answer = inquiry.answers.get(peer)
    if answer is None or answer.clauses == (UNREACHABLE,):
        lost = answer is not None
        return _left_out(inquiry, peer, lost=lost) or _unanswered(inquiry, peer, known, now, lost=lost, is_over=is_over)
    if answer.bid is None:
        clauses = (*_on_budget(inquiry, answer.clauses), *_ruled_out(inquiry, known, answer.facts))
        return NodeVerdict(peer, Outcome.DECLINED, clauses, detail=answer.note)
    if answer.lost:
        return NodeVerdict(peer, Outcome.UNREACHABLE, price=answer.bid.price, detail=f"it {answer.note}")
    if peer in excluded:
        note = answer.note or "it bids, and the job's own conditions rule it out"
        return NodeVerdict(peer, Outcome.DECLINED, excluded[peer], answer.bid.price, note)
    return NodeVerdict(peer, Outcome.BID, price=answer.bid.price, detail=answer.note, aside=answer.facts.aside)


def _on_budget(inquiry: Inquiry, clauses: tuple[Clause, ...]) -> tuple[Clause, ...]:
    """What was declined for the price, where the budget keeps that down, asks for more budget."""
    budget = inquiry.request.max_price
    if budget >= inquiry.max_price:
        return clauses
    return tuple(on_budget(clause, inquiry.max_price, budget, budget) for clause in clauses)


def _ruled_out(inquiry: Inquiry, known: Peer | None, facts: BidderFacts) -> tuple[Clause, ...]:
    """What the job's own constraints have against a node that declined, as far as the node has told what it has."""
    constraints = inquiry.preferences.constraints
    if not constraints or known is None or known.hello is None:
        return ()
    nothing_bid = Bid(
        inquiry.request.request_id, 0, 0, BidId(""), known.hello.summary, 1, Price(), 0, valid_until=0, valid_ms=0
    )
    candidate = candidate_of(known.peer, nothing_bid, facts)
    return ruled_out_whatever_it_bids(inquiry.request, constraints, candidate)


def with_agents(found: Explanation, terms: Terms) -> Explanation:
    """Also: what of the memory that is asked for the job does not get itself."""
    task, asked = terms.task, terms.needs.resources.memory_bytes
    agents = agents_of(task)
    is_asked_for = asked >= task.resources.memory_bytes + agents
    return msgspec.structs.replace(found, agent_bytes=agents if is_asked_for else 0)


def _left_out(inquiry: Inquiry, peer: PeerId, *, lost: bool) -> NodeVerdict | None:
    """Of a node that was not asked on purpose, why."""
    if inquiry.only and peer != inquiry.only:
        return NodeVerdict(peer, Outcome.NOT_ASKED, detail=_ANOTHER)
    aside = inquiry.passed_over.get(peer)
    if aside is None or lost or peer in inquiry.asked:
        return None
    return NodeVerdict(peer, Outcome.NOT_ASKED, detail=_PASSED_OVER, aside=aside)


def _unanswered(
    inquiry: Inquiry, peer: PeerId, known: Peer | None, now: int, *, lost: bool, is_over: bool
) -> NodeVerdict:
    idle = _takes_no_work(known)
    away = _away(known, now)
    was_away = away and known is not None and 0 < known.seen_at <= inquiry.opened_at
    if inquiry.opened_at and not lost and not was_away and peer not in inquiry.asked:
        return NodeVerdict(peer, Outcome.NOT_ASKED, detail=_NO_WORK if idle else _NOT_BY_NAME, today=True)
    if lost or (away and peer not in inquiry.asked):
        return NodeVerdict(peer, Outcome.UNREACHABLE, detail=away or "the connection was lost before it answered")
    if idle and peer not in inquiry.asked:
        return NodeVerdict(peer, Outcome.NOT_ASKED, detail=_NO_WORK)
    if peer in inquiry.asked or peer in inquiry.reached:
        seen = f"; last heard of {format_age(now - known.seen_at)} ago" if known and known.seen_at else ""
        since = f"; by now {_NO_WORK}" if idle else ""
        rounds = inquiry.unawaited.get(peer, 0)
        unawaited = f"; not waited for: {format_count(rounds, 'round')} before unanswered" if rounds else ""
        return NodeVerdict(peer, Outcome.SILENT, detail=f"asked, and has not answered{unawaited}{seen}{since}")
    return NodeVerdict(peer, Outcome.NOT_ASKED, detail=_ENOUGH if is_over else _BEYOND)


def _away(known: Peer | None, now: int) -> str:
    """Why a peer cannot be asked; empty when it can."""
    if known is None or known.phase is PeerPhase.GREETED:
        return ""
    if known.phase is PeerPhase.REFUSED:
        return known.refused_because
    if known.phase is PeerPhase.CONNECTED:
        return "connected, and has not introduced itself yet"
    ago = f", last seen {format_age(now - known.seen_at)} ago" if known.seen_at else ""
    return f"not connected{f' ({known.left_because})' if known.left_because else ''}{ago}"


def _takes_no_work(known: Peer | None) -> bool:
    """Whether a node has said so: gossip passes through it, and it answers nothing."""
    return known is not None and known.hello is not None and not known.hello.accepts_work


def answers_of(
    heard: Mapping[PeerId, Bid | tuple[Clause, ...]], facts: Mapping[PeerId, BidderFacts]
) -> dict[PeerId, Reply]:
    """Answers to a dry run."""
    return {
        peer: Reply(bid=said, facts=facts.get(peer, BidderFacts())) if isinstance(said, Bid) else Reply(clauses=said)
        for peer, said in heard.items()
    }


def lost_meanwhile(
    asked: Iterable[PeerId], heard: Mapping[PeerId, object], after: Membership
) -> dict[PeerId, tuple[Clause, ...]]:
    """Nodes that were asked, and went away without an answer: not silent, but not to be reached."""
    there = {peer.peer for peer in after.greeted()} | {after.me}
    return {peer: (UNREACHABLE,) for peer in asked if peer not in heard and peer not in there}


def dry_request(terms: Terms) -> BidRequest:
    """The question of a dry run: nothing is locked, nobody is expected to remember it."""
    return msgspec.structs.replace(opening_request(terms), dry_run=True, stands_ms=0)


def whom_to_ask(membership: Membership, only: str = "", *, self_bids: bool) -> tuple[PeerId, ...]:
    """Everybody who takes part and takes work, this node included if it does; or of these the one that a job names."""
    peers: Iterable[Peer] = membership.greeted()
    asked = [peer.peer for peer in peers if peer.hello is not None and peer.hello.accepts_work]
    everybody = (*asked, membership.me) if self_bids else tuple(asked)
    return tuple(peer for peer in everybody if only in ("", peer))
