"""Copies of one piece of work, where a job wants its results checked: who may have one, when one more is due, and which result holds.

A piece of work is one of the request's `count`; its copies are slots like any other, so they are bid for, awarded, retried and paid alike::

    slot of a piece ──award──▶ a check is due? ──CopyCalled──▶ one more slot, at somebody who has none
                                                   ▲ they disagree; a look is due at what was taken as it came: `auction_lots`
    all copies are over ──▶ camps ──▶ `quorum.judge` ──▶ ResultJudged ──▶ receipts: what was wrong is not paid
                              ▲ which are the same: `auction_camps`

Until then what a copy gave is only a vote: its provider gets its receipt with the verdict. A failure of the job itself is an answer as well, and
none is taken unchecked. Ends that are no answer (a node was lost, a copy cancelled) are handled as in any request.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from dms_proto.accounts.book import charge
from dms_proto.ids import PeerId
from dms_proto.machine import IGNORED, Decision, Effect, Event, Send
from dms_proto.market.agreement import receipt_for
from dms_proto.market.auction_attempts import STOPPED
from dms_proto.market.auction_camps import begin, camps_of, result_of, why_failed, why_unfit
from dms_proto.market.auction_events import AttemptEnded, CopyCalled, ResultJudged
from dms_proto.market.auction_lots import doubted, is_all_else_judged, is_good, provisional
from dms_proto.market.auction_money import AT_WORK
from dms_proto.market.auction_state import Auction, AuctionPhase, OpenBid, Slot, SlotPhase, terms_of
from dms_proto.market.auction_terms import KNOWN, Answer, Terms
from dms_proto.market.canaries import known_votes
from dms_proto.reputation.sources import place_of
from dms_proto.units import format_count, format_credits
from dms_proto.verification.policy import MAX_COPIES, Apart, Policy, is_proven
from dms_proto.verification.quorum import Verdict, Vote, Voter, judge, next_voter, support, weight_of
from dms_proto.work import Ending, EndReason

FIRM: Final = frozenset({EndReason.COMPLETED, EndReason.EXIT_NONZERO, EndReason.OUT_OF_FUEL, EndReason.OUTPUT_LIMIT})
"""Answers that do not depend on the machine: who is outvoted with one was wrong. With any other (too slow for the time limit, a processor without
the instruction, …) nothing is held against it."""
change = msgspec.structs.replace
_AGREED: Final = Ending(EndReason.CANCELLED, detail="not needed any more: the other copies agree")
_FAILED: Final = Ending(EndReason.CANCELLED, detail="not needed any more: copies cannot be compared")


def copies_of(auction: Auction, piece: int) -> tuple[Slot, ...]:
    """The slots of a piece of work."""
    return tuple(slot for slot in auction.slots if slot.piece == piece)


# ---------------------------------------------------------------------------------------------------------------- placing


def taker(
    auction: Auction, slot: Slot, ranked: Iterable[OpenBid], given: Iterable[tuple[int, OpenBid]]
) -> OpenBid | None:
    """Who gets a slot that seeks: the best bid, or for a copy the best whose word would add anything; None: nobody here.

    Args:
        auction: the request.
        slot: which seeks.
        ranked: bids with room that may be taken for it, best first.
        given: pieces of slots that were given away just now, and to whom.
    """
    terms = terms_of(auction)
    if not terms.verify.is_on:
        return next(iter(ranked), None)
    just_now = [_voter_of_bid(terms, bid) for piece, bid in given if piece == slot.piece]
    asked = [*_asked(auction, slot), *just_now]
    bids: dict[Voter, OpenBid] = {}
    for bid in ranked:  # of several by one provider, the best
        bids.setdefault(_voter_of_bid(terms, bid), bid)
    chosen = next_voter(bids, asked) if asked else next(iter(bids), None)
    return bids[chosen] if chosen is not None else None


def is_welcome(auction: Auction, slot: Slot, bid: OpenBid) -> bool:
    """Whether a bid may be taken for a slot that seeks."""
    return bid.provider not in slot.failed_on and taker(auction, slot, (bid,), ()) is not None


def _asked(auction: Auction, slot: Slot) -> list[Voter]:
    """Who has, or has had, a copy of the same piece of work."""
    terms = terms_of(auction)
    others = (other for other in copies_of(auction, slot.piece) if other.index != slot.index)
    voters = [_voter(terms, other) for other in others if other.phase is not SlotPhase.SEEKING and other.provider]
    seen = terms.canary.asked if terms.canary is not None else ()
    return [*(Voter(each.provider, _place(terms, each.provider, each.source)) for each in seen), *voters]


def _voter(terms: Terms, slot: Slot) -> Voter:
    return Voter(slot.provider, _place(terms, slot.provider, slot.source), slot.streak)


def _voter_of_bid(terms: Terms, bid: OpenBid) -> Voter:
    return Voter(bid.provider, _place(terms, bid.provider, bid.facts.source), bid.facts.streak)


def _place(terms: Terms, provider: PeerId, source: str) -> str:
    """What no two copies may have in common."""
    return provider if terms.verify.apart is Apart.NODES else place_of(source)


def is_copy(auction: Auction, slot: Slot) -> bool:
    """Whether somebody else has, or has had, a copy of the same piece."""
    return bool(_asked(auction, slot))


def neighbours(auction: Auction, bids: Iterable[OpenBid]) -> int:
    """How many bidders have no copy of what seeks, and get none only because they share a source with somebody who has."""
    asked = [_asked(auction, slot) for slot in auction.slots if slot.phase is SlotPhase.SEEKING]
    bidders = {bid.provider: _place(terms_of(auction), bid.provider, bid.facts.source) for bid in bids}
    return sum(
        all(
            provider not in {voter.provider for voter in voters} and source in {voter.source for voter in voters}
            for voters in asked
        )
        for provider, source in bidders.items()
    )


def checks_due(auction: Auction, awarded: Iterable[int]) -> tuple[Event, ...]:
    """Copies beside the slots that were just awarded: where their providers' answers are to be checked, and until all would suffice if they agree.

    They are awarded at once, with what else is: whoever is asked again only when an answer is there could tell why.
    """
    if not terms_of(auction).verify.is_on:
        return ()
    pieces = dict.fromkeys(auction.slots[index].piece for index in awarded)
    return tuple(CopyCalled(piece) for piece in pieces if _is_copy_due(auction, piece))


def _is_copy_due(auction: Auction, piece: int) -> bool:
    terms, copies = terms_of(auction), copies_of(auction, piece)
    if len(copies) >= MAX_COPIES or any(slot.phase is SlotPhase.SEEKING for slot in copies):
        return False
    if len(copies) == 1 and _is_enough_alone(terms, copies[0]):
        return False
    return weight_of((_present_voter(auction, slot) for slot in copies), terms.verify) < terms.verify.quorum


def _present_voter(auction: Auction, slot: Slot) -> Voter:
    """As it counts now: who was wrong elsewhere in the job votes as a newcomer."""
    voter = _voter(terms_of(auction), slot)
    return change(voter, streak=0) if slot.provider in doubted(auction) else voter


def _is_enough_alone(terms: Terms, slot: Slot) -> bool:
    """Whether one answer is enough: its provider is taken at its word this time, or the answer that is known is its check."""
    if terms.canary is not None:
        return terms.canary.is_confirmed or is_proven(slot.streak)
    return terms.verify.first_copies(slot.streak, terms.seed, slot.piece) == 1


# ---------------------------------------------------------------------------------------------------------------- judging


def judge_step(auction: Auction, now: int) -> Decision:
    """Judges every piece of work of which no copy is under way; calls one more where that may settle it. What is provisional stays so."""
    if not terms_of(auction).verify.is_on:
        return IGNORED
    held = provisional(auction)
    return _judged(auction, (piece for piece in _pieces_to_judge(auction) if piece not in held), now)


def accept_step(auction: Auction, now: int) -> Decision:
    """With all else judged, and no look due: what is provisional is taken as it came."""
    held = provisional(auction)
    return _judged(auction, held, now) if held and is_all_else_judged(auction) else IGNORED


def _judged(auction: Auction, pieces: Iterable[int], now: int) -> Decision:
    decisions = [_judge_piece(auction, piece, now) for piece in pieces]
    return Decision(
        tuple(event for decision in decisions for event in decision.events),
        tuple(effect for decision in decisions for effect in decision.effects),
    )


def _pieces_to_judge(auction: Auction) -> tuple[int, ...]:
    """Pieces that are not judged, of which no copy is under way and at least one is over."""
    working = {slot.piece for slot in auction.slots if slot.phase in AT_WORK}
    over = dict.fromkeys(slot.piece for slot in auction.slots if slot.phase is SlotPhase.DONE)
    return tuple(piece for piece in over if piece not in working and piece not in auction.verdicts)


def _judge_piece(auction: Auction, piece: int, now: int) -> Decision:
    is_open, failed = auction.phase is AuctionPhase.OPEN, why_failed(auction, piece)
    if is_open and piece in auction.comparing:
        return IGNORED  # what is stopped does not wait for a comparator
    if (begun := begin(auction, piece)) != IGNORED:
        return begun
    copies = copies_of(auction, piece)
    answered = [slot for slot in copies if slot.has_answered]
    verdict = _verdict(auction, piece, copies, answered)
    if verdict.accepted is None and not failed:
        if any(slot.phase is SlotPhase.SEEKING for slot in copies):
            return IGNORED
        if is_open and len(answered) == len(copies) and not verdict.undecided:
            return Decision((CopyCalled(piece),))
    judged = (
        _undecided(auction, piece, copies, answered, now)
        if verdict.accepted is None
        else _accepted(auction, piece, answered, verdict, now)
    )
    spare = tuple(slot for slot in copies if slot.phase is SlotPhase.SEEKING)
    ending = _FAILED if failed else _AGREED
    ends = tuple(AttemptEnded(slot.index, PeerId(""), slot.allocation_id, ending, final=True) for slot in spare)
    return Decision((*ends, judged), _receipts(answered, judged))


def _verdict(auction: Auction, piece: int, copies: Sequence[Slot], answered: Sequence[Slot]) -> Verdict:
    terms = terms_of(auction)
    if why_failed(auction, piece):
        return Verdict(undecided=True)
    if len(copies) == len(answered) == 1:
        vote = _vote(terms, answered[0])
        if terms.canary is not None:
            is_as_known = any(camp[0] == KNOWN and len(camp) > 1 for camp in camps_of(auction, piece))
            is_confirming = is_as_known and _is_enough_alone(terms, answered[0])
            return Verdict(vote, (vote.voter.provider,)) if is_confirming else Verdict()
        if terms.verify.policy is Policy.ADAPTIVE and vote.result.ending.reason is EndReason.COMPLETED:
            return Verdict(vote)  # no check was called when it was awarded
    if _is_look_in_vain(auction, copies, answered):
        return Verdict(_vote(terms, answered[0]))
    witnesses = [vote.voter.provider for vote in _known_votes(auction, piece)]
    return judge(_votes(auction, piece), terms.verify, witnesses)


def _is_look_in_vain(auction: Auction, copies: Sequence[Slot], answered: Sequence[Slot]) -> bool:
    """Whether one answer, of a provider not in doubt, was to be looked at again, and nobody could: then it is as good as before."""
    terms, first = terms_of(auction), copies[0]
    is_taken = terms.verify.policy is Policy.ADAPTIVE and terms.canary is None and is_good(first)
    is_alone = len(answered) == 1 and all(slot.phase is SlotPhase.DONE for slot in copies)
    return is_taken and is_alone and _is_enough_alone(terms, first) and first.provider not in doubted(auction)


def _votes(auction: Auction, piece: int) -> list[list[Vote]]:
    """The answers of providers, by camps; for the known answer of a canary those who gave it vote as well."""
    known = _known_votes(auction, piece)
    camps = (
        [
            *(_present_vote(auction, auction.slots[index]) for index in camp if index != KNOWN),
            *(known if KNOWN in camp else ()),
        ]
        for camp in camps_of(auction, piece)
    )
    return [camp for camp in camps if camp]


def _known_votes(auction: Auction, piece: int) -> tuple[Vote, ...]:
    """For the known answer of a canary: as much as accepted it at least, if somebody had agreed with it, and else one provider's that was trusted."""
    known, said = terms_of(auction).canary, auction.comparisons.get(piece)
    if known is None or (said is not None and KNOWN in said.unfit):
        return ()
    return known_votes(known)


def _present_vote(auction: Auction, slot: Slot) -> Vote:
    return Vote(_present_voter(auction, slot), result_of(slot))


def _vote(terms: Terms, slot: Slot) -> Vote:
    return Vote(_voter(terms, slot), result_of(slot))


def _accepted(auction: Auction, piece: int, answered: Sequence[Slot], verdict: Verdict, now: int) -> ResultJudged:
    assert verdict.accepted is not None
    slots = {slot.provider: slot for slot in answered}
    accepted = slots[verdict.accepted.voter.provider]
    outvoted = [slots[provider] for provider in verdict.wrong]
    unchecked = () if verdict.right else answered
    wrong = [slot for slot in outvoted if _is_firm(auction, slot)]
    judged = ResultJudged(
        piece,
        now,
        accepted.index,
        right=tuple(_answer(slots[provider]) for provider in verdict.right),
        wrong=tuple(_answer(slot) for slot in wrong),
        unjudged=tuple(_answer(slot) for slot in (*unchecked, *outvoted) if slot not in wrong),
        pieces=terms_of(auction).count,
        unfit=tuple(_answer(slot) for slot in outvoted if why_unfit(auction, slot)),
    )
    return _looking_back(auction, judged, accepted)


def _looking_back(auction: Auction, judged: ResultJudged, accepted: Slot) -> ResultJudged:
    """The verdict on a canary: what it says of the answer that was accepted then, the lie perhaps."""
    known, said = terms_of(auction).canary, auction.comparisons.get(judged.piece)
    if known is None:
        return judged
    is_as_known = any({KNOWN, accepted.index} <= set(camp) for camp in camps_of(auction, judged.piece))
    is_unfit = said is not None and KNOWN in said.unfit
    return change(
        judged,
        canary=(known.request_id, known.piece),
        overturned=() if is_as_known or is_unfit else known.right,
        confirmed=known.right if is_as_known and not known.is_confirmed else (),
        unfit=(*judged.unfit, *(known.right if is_unfit and not is_as_known else ())),
    )


def _is_firm(auction: Auction, slot: Slot) -> bool:
    return slot.ending is not None and slot.ending.reason in FIRM and not why_unfit(auction, slot)


def _answer(slot: Slot) -> Answer:
    return Answer(slot.index, slot.provider, slot.allocation_id, slot.settled[-1].price, slot.source)


def _undecided(
    auction: Auction, piece: int, copies: Sequence[Slot], answered: Sequence[Slot], now: int
) -> ResultJudged:
    known = terms_of(auction).canary
    return ResultJudged(
        piece,
        now,
        unjudged=tuple(_answer(slot) for slot in answered),
        why=_why_undecided(auction, copies, answered),
        canary=(known.request_id, known.piece) if known is not None else None,
    )


def _why_undecided(auction: Auction, copies: Sequence[Slot], answered: Sequence[Slot]) -> str:
    """What there is, and what stands in the way of more."""
    terms, piece = terms_of(auction), copies[0].piece
    if failed := why_failed(auction, piece):
        return f"{format_count(len(answered), 'answer')}; {auction.comparisons[piece].comparator} cannot compare them: {failed}"
    votes = support(_votes(auction, piece), terms.verify)
    given = f"{format_count(len(answered), 'answer')}; {votes} of {format_count(terms.verify.quorum, 'vote')} for the same one"
    unfit = [
        f"; that of slot {slot.index} cannot be compared: {why}"
        for slot in answered
        if (why := why_unfit(auction, slot))
    ]
    given += "".join(unfit[:1])
    if len(answered) == len(copies):
        is_open = auction.phase is AuctionPhase.OPEN
        return f"{given}, and {'one more copy would not settle it' if is_open else STOPPED[auction.stopped_for]}"
    other = next(slot.ending for slot in copies if not slot.has_answered and slot.ending is not None)
    return f"{given}; one more copy: {other.detail or other.reason}"


def _receipts(answered: Sequence[Slot], judged: ResultJudged) -> tuple[Effect, ...]:
    """Tells every provider that answered what is owed for it, and books the same."""
    wrong = {answer.slot for answer in judged.wrong}
    effects: list[Effect] = []
    for slot in answered:
        status, attempt = slot.status, slot.settled[-1]
        assert status is not None, "who has answered has told its status"
        owed = 0 if slot.index in wrong else attempt.price
        refused, objection = max(0, status.price - owed), _objection(status.price, attempt.price, owed)
        effects += charge(slot.provider, status.request_id, attempt.allocation_id, owed, objection, refused=refused)
        effects.append(Send(slot.provider, receipt_for(status, owed)))
    return tuple(effects)


def _objection(claimed: int, fair: int, owed: int) -> str:
    """What is said of a claim that is not accepted as it is; empty for one that is."""
    if owed < fair:
        return f"{format_credits(claimed)} were claimed; others who did the same work agree on another result"
    if owed < claimed:
        return f"{format_credits(claimed)} were claimed; its tariff gives {format_credits(owed)}"
    return ""


# ---------------------------------------------------------------------------------------------------------------- the end


def endings(auction: Auction) -> Iterator[Ending]:
    """How each piece of work ended; each slot is one where nothing is checked."""
    if not terms_of(auction).verify.is_on:
        yield from (slot.ending for slot in auction.slots if slot.ending is not None)
        return
    for piece in range(terms_of(auction).count):
        yield _ending_of(auction, auction.verdicts[piece])


def _ending_of(auction: Auction, judged: ResultJudged) -> Ending:
    copies = copies_of(auction, judged.piece)
    if judged.accepted is not None:
        ending = auction.slots[judged.accepted].ending
    elif auction.phase is AuctionPhase.OPEN and any(slot.has_answered for slot in copies):
        ending = Ending(EndReason.UNDECIDED, detail=judged.why)
    else:
        stopped = Ending(auction.stopped_for, detail=STOPPED[auction.stopped_for])
        ending = next((slot.ending for slot in copies if not slot.has_answered), stopped)
    assert ending is not None, "what was judged has ended"
    return ending


def is_over(auction: Auction) -> bool:
    """Whether every piece of work has its ending."""
    if any(slot.phase is not SlotPhase.DONE for slot in auction.slots):
        return False
    terms = terms_of(auction)
    return not terms.verify.is_on or len(auction.verdicts) == terms.count


# ------------------------------------------------------------------------------------------------------------------- laws


def quorum_faults(auction: Auction, judged: ResultJudged) -> str:
    """What is wrong with a verdict, by the state after it; empty: an accepted result has the votes it needs, from nodes with nothing in common."""
    if judged.accepted is None:
        return ""
    terms = terms_of(auction)
    if not judged.right:
        answered = [slot for slot in copies_of(auction, judged.piece) if slot.has_answered]
        return "" if len(answered) == 1 and terms.verify.policy is Policy.ADAPTIVE else "accepted without a vote"
    voters = [_voter(terms, auction.slots[answer.slot]) for answer in judged.right]
    if len({voter.provider for voter in voters}) < len(voters) or len({voter.source for voter in voters}) < len(voters):
        return f"one and the same has voted twice: {voters}"
    right = {answer.slot for answer in judged.right}
    camp = next((set(camp) for camp in camps_of(auction, judged.piece) if right <= set(camp)), set())
    if judged.accepted not in right or not camp:
        return f"they do not agree: {right}"
    if blamed := [
        answer for answer in judged.wrong if answer.slot in camp or why_unfit(auction, auction.slots[answer.slot])
    ]:
        return f"wrong without being another answer: {blamed}"
    votes = [_vote(terms, auction.slots[index]) for index in right]
    votes += _known_votes(auction, judged.piece) if KNOWN in camp else ()
    is_confirming = KNOWN in camp and len(right) == 1 and _is_enough_alone(terms, auction.slots[judged.right[0].slot])
    is_accepted = is_confirming or judge([votes], terms.verify).accepted is not None
    return "" if is_accepted else f"no quorum: {voters}"
