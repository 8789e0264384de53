"""Which answers to a piece of work are the same: by hash, and where a job names another comparator, as that has said.

::

    all copies are over, and hashes differ ──ComparisonBegun──▶ Compare: the shell asks the comparator
                                                                     │ Compared
    one more copy answers: the earlier camps stay ◀── judged ◀── ResultsCompared

How a run ended is compared here, exactly, before any comparator sees what it left: a failure and a success are never the same. What is the same by
hash is the same, whatever a comparator would say.
"""

from __future__ import annotations

from collections.abc import Iterator

from dms_proto.machine import IGNORED, Decision
from dms_proto.market.auction_effects import Compare
from dms_proto.market.auction_events import ComparisonBegun, ResultsCompared
from dms_proto.market.auction_state import Auction, AuctionPhase, Slot, terms_of
from dms_proto.market.auction_stimuli import Compared
from dms_proto.market.auction_terms import KNOWN, Given
from dms_proto.verification.comparing import Camp
from dms_proto.verification.policy import HASH
from dms_proto.verification.quorum import Result, equal


def result_of(slot: Slot) -> Result:
    """What a slot has answered."""
    assert slot.ending is not None, "who has answered has ended"
    assert slot.status is not None, "who has answered has told its status"
    return Result(slot.ending, slot.outputs, slot.status.log_digests[0])


def given_by(slot: Slot) -> Given:
    """The same, as a comparator is shown it."""
    assert slot.status is not None, "who has answered has told its status"
    return Given(slot.index, slot.allocation_id, slot.outputs, slot.status.log_bytes[0])


def camps_of(auction: Auction, piece: int) -> tuple[Camp, ...]:
    """The answers to a piece of work, by their slots, together with those that are the same; a known answer beside them as `KNOWN`."""
    results = _results(auction, piece)
    camps = [list(camp) for camp in _compared_camps(auction, piece)]
    placed = {index for camp in camps for index in camp}
    for index, result in results.items():
        if index in placed:
            continue
        home = next((camp for camp in camps if any(equal(results[other], result) for other in camp)), None)
        if home is None:
            camps.append([index])
        else:
            home.append(index)
    return tuple(map(tuple, camps))


def why_unfit(auction: Auction, slot: Slot) -> str:
    """Why a slot's answer could not be compared with any other; empty: it could, or did not have to be."""
    said = auction.comparisons.get(slot.piece)
    if said is None:
        return ""
    camp = next((camp for camp in camps_of(auction, slot.piece) if slot.index in camp), (slot.index,))
    return next((said.unfit[index] for index in camp if index in said.unfit), "")


def why_failed(auction: Auction, piece: int) -> str:
    """Why the comparator could not compare the answers to a piece; empty: it could, or has not been asked."""
    said = auction.comparisons.get(piece)
    return said.failed if said is not None else ""


def begin(auction: Auction, piece: int) -> Decision:
    """Asks the comparator about answers of which it has not said yet whether they are the same; nothing where there are none."""
    verify = terms_of(auction).verify
    if verify.comparator == HASH or auction.phase is not AuctionPhase.OPEN or why_failed(auction, piece):
        return IGNORED
    begun = next(_questions(auction, piece), None)
    return Decision((begun,), (question(auction, begun),)) if begun is not None else IGNORED


def _questions(auction: Auction, piece: int) -> Iterator[ComparisonBegun]:
    """What the comparator has still to say: of answers that ended alike, where those by different hashes have not all been compared."""
    results, said = _results(auction, piece), auction.comparisons.get(piece)
    asked = {camp[0] for camp in _compared_camps(auction, piece)}
    unfit = said.unfit if said is not None else {}
    alike: dict[tuple[object, int], list[int]] = {}
    for camp in camps_of(auction, piece):
        ending = results[camp[0]].ending
        alike.setdefault((ending.reason, ending.exit_code), []).append(camp[0])
    for firsts in alike.values():
        fresh = tuple(first for first in firsts if first not in asked)
        if fresh and len(firsts) > 1:
            founders = tuple(first for first in firsts if first in asked and first not in unfit)
            yield ComparisonBegun(piece, founders, fresh)


def question(auction: Auction, begun: ComparisonBegun) -> Compare:
    """What the shell is to do for a comparison that was begun."""
    founders, fresh = (tuple(_given(auction, index) for index in part) for part in (begun.founders, begun.fresh))
    return Compare(begun.piece, terms_of(auction).verify.comparator, founders, fresh)


def compared(auction: Auction, stimulus: Compared, now: int) -> Decision:
    """The comparator has said something. Of what was not asked, or asked before the node started anew, nothing follows."""
    begun = auction.comparing.get(stimulus.piece)
    if begun is None or (*begun.founders, *begun.fresh) != stimulus.asked:
        return IGNORED
    found, before = stimulus.grouping, auction.comparisons.get(stimulus.piece)
    camps = _compared_camps(auction, stimulus.piece)
    if not found.failed:
        home = {index: camp for camp in camps_of(auction, stimulus.piece) for index in camp}
        camps = tuple(camp for camp in camps if camp[0] not in stimulus.asked)
        camps += tuple(
            tuple(dict.fromkeys((*camp, *(i for first in camp for i in home[first])))) for camp in found.camps
        )
    unfit = {**(before.unfit if before is not None else {}), **found.unfit}
    event = ResultsCompared(stimulus.piece, now, stimulus.comparator, camps, unfit, found.failed)
    return Decision((event,))


def _compared_camps(auction: Auction, piece: int) -> tuple[Camp, ...]:
    said = auction.comparisons.get(piece)
    return said.camps if said is not None else ()


def _results(auction: Auction, piece: int) -> dict[int, Result]:
    """By slot, in their order; what is known already comes first."""
    known = terms_of(auction).canary
    results = {} if known is None else {KNOWN: known.result}
    return results | {
        slot.index: result_of(slot) for slot in auction.slots if slot.piece == piece and slot.has_answered
    }


def _given(auction: Auction, index: int) -> Given:
    if index == KNOWN:
        known = terms_of(auction).canary
        assert known is not None, "only a canary has a known answer"
        return known.given
    return given_by(auction.slots[index])
