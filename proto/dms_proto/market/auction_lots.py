"""A job of several pieces, whose answers are checked adaptively: what was taken as it came is *provisional* until the job is over.

Nobody has been given it as the piece's result, and nobody is paid for it, so it can still be done again. All that one provider gave to the job is its
*lot*, and what is seen of one piece counts for all of it::

    an answer taken as it came ──▶ provisional ──all else is judged──▶ accepted as it is
                                       │ a look is due: one in `LOOK_ONE_IN` of the lot
                                       │ its provider is in doubt: it was wrong elsewhere in this job
                                       └──CopyCalled──▶ judged like any copies

A look comes when the answer is there, so it finds what was said by somebody who could not know. Which answer of a lot is looked at only the
request's secret tells, and providers learn nothing before the end: who has seen one of its answers checked knows nothing of the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from dms_proto.ids import PeerId
from dms_proto.machine import IGNORED, Decision
from dms_proto.market.auction_events import CopyCalled
from dms_proto.market.auction_state import Auction, AuctionPhase, Slot, SlotPhase, terms_of
from dms_proto.verification.chance import drawn
from dms_proto.verification.policy import Policy, looks_due
from dms_proto.work import EndReason


def provisional(auction: Auction) -> Mapping[int, Slot]:
    """By piece, the answers that are taken as they came, if nothing comes up before the job is over. What is being stopped waits for nothing."""
    terms = terms_of(auction)
    is_of_several = terms.verify.policy is Policy.ADAPTIVE and terms.count > 1
    if not is_of_several or auction.phase is not AuctionPhase.OPEN:
        return {}
    copies = Counter(slot.piece for slot in auction.slots)
    return {
        slot.piece: slot
        for slot in auction.slots
        if copies[slot.piece] == 1 and slot.piece not in auction.verdicts and is_good(slot)
    }


def is_good(slot: Slot) -> bool:
    """Whether an answer may be taken as it comes: a failure is not."""
    return slot.has_answered and slot.ending is not None and slot.ending.reason is EndReason.COMPLETED


def doubted(auction: Auction) -> frozenset[PeerId]:
    """Who gave something in this job that was wrong, or could not be compared."""
    blamed = (answer for judged in auction.verdicts.values() for answer in (*judged.wrong, *judged.unfit))
    return frozenset(answer.provider for answer in blamed)


def looks_step(auction: Auction, _now: int) -> Decision:
    """Has provisional answers done again: those that chance picks of each lot, and all of whoever is in doubt."""
    held = provisional(auction)
    if not held:
        return IGNORED
    lots: dict[PeerId, list[Slot]] = {}
    for slot in held.values():
        lots.setdefault(slot.provider, []).append(slot)
    in_doubt = doubted(auction)
    answers, checked = _counts(auction)
    due: list[Slot] = []
    for provider, lot in lots.items():
        looks = looks_due(answers[provider], terms_of(auction).seed, provider) - checked[provider]
        due += lot if provider in in_doubt else _picked(auction, lot, looks)
    return Decision(tuple(CopyCalled(slot.piece) for slot in due))


def _counts(auction: Auction) -> tuple[Counter[PeerId], Counter[PeerId]]:
    """Of the pieces that were given to each provider first: how many it has answered, and how many of these have copies."""
    copies = Counter(slot.piece for slot in auction.slots)
    first = [slot for slot in auction.slots if slot.index < terms_of(auction).count and slot.has_answered]
    return Counter(slot.provider for slot in first), Counter(slot.provider for slot in first if copies[slot.piece] > 1)


def _picked(auction: Auction, lot: list[Slot], looks: int) -> list[Slot]:
    if looks <= 0:
        return []
    seed = terms_of(auction).seed
    return sorted(lot, key=lambda slot: drawn(seed, "look", slot.piece))[:looks]


def is_all_else_judged(auction: Auction) -> bool:
    """Whether nothing is left to do but to take what is provisional."""
    done = all(slot.phase is SlotPhase.DONE for slot in auction.slots)
    return done and len(auction.verdicts) + len(provisional(auction)) == terms_of(auction).count
