"""Why a request found nobody, in one line: counted, and with what the node nearest to a yes would take.

Nearest is the node with the fewest things in the way, and of those the one to which the smallest change leads. A bid that the job's own constraints
ruled out is nearest of all: its node does want the job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from dms_proto.ids import PeerId
from dms_proto.market.auction_messages import bid_request
from dms_proto.market.auction_money import affordable, money_left, spent
from dms_proto.market.auction_state import Auction, terms_of
from dms_proto.market.changes import QUANTITIES, Change, parse_change
from dms_proto.market.ranking import Ranking
from dms_proto.market.verdicts import CONSTRAINT
from dms_proto.messages import BidRequest, Clause
from dms_proto.units import format_count, format_credits
from dms_proto.work import EndReason

DEBT: Final = "debt"
"""Dimension in which a bid is passed over because too much would be owed to its provider."""
_EXCHANGE: Final = 2_000
"""How far a change of kind is, beside amounts: as far as twice, or half, the amount. In thousandths."""
_PAID_FOR: Final = frozenset({"cpu", "memory", "disk", "wall_time", "gpu_count", "gpu_share"})
"""Dimensions in which asking for less costs less as well."""


def why_impossible(auction: Auction, ranking: Ranking) -> tuple[str, EndReason]:
    """The reason in words, from the node that was nearest to a yes.

    Args:
        auction: the request, with the declines.
        ranking: of the bids that are there.
    """
    ruled_out = {entry.provider: entry.clauses for entry in ranking.excluded}
    declines = {peer: clauses for peer, clauses in auction.declines.items() if peer not in ruled_out}
    if not declines and not any(ruled_out.values()):
        if _is_short(auction):
            return _what_is_left(auction), EndReason.BUDGET_SPENT
        return "every bid was excluded by the job's own constraints", EndReason.IMPOSSIBLE
    passed_over = [said[0] for said in declines.values() if said and said[0].dimension == DEBT]
    if passed_over:  # they did bid: only this node's owner stands in the way
        bidders = format_count(len(passed_over), "bidder")
        return f"{bidders} could be owed too much: {passed_over[0].observed}", EndReason.BUDGET_SPENT
    clauses = _nearest_of({**declines, **ruled_out}, bid_request(auction, auction.round))
    counted = _counted(len(declines), len(ruled_out))
    nearest = _in_words(within_budget(clauses, auction))
    reason = EndReason.IMPOSSIBLE
    if not ruled_out and all(any(clause.dimension == "policy" for clause in said) for said in declines.values()):
        counted += " by its owner's rules" if len(declines) == 1 else " by their owners' rules"
        reason = EndReason.REFUSED_BY_POLICY
    elif all(clause.dimension == "price" for clause in clauses):
        reason = EndReason.BUDGET_SPENT if spent(auction) and _is_short(auction) else EndReason.PRICE_TOO_LOW
        counted = f"{_what_is_left(auction)}; {counted}" if _is_short(auction) else counted
    return f"{counted}; nearest: {nearest}", reason


def within_budget(clauses: Iterable[Clause], auction: Auction) -> tuple[Clause, ...]:
    """The clauses, those on the price as ones on the budget where it is the budget that keeps the price down."""
    terms = terms_of(auction)
    if not _is_short(auction):
        return tuple(clauses)
    return tuple(on_budget(clause, terms.max_price, money_left(auction), terms.budget) for clause in clauses)


def on_budget(clause: Clause, max_price: int, left: int, budget: int) -> Clause:
    """A clause on the price as one on the budget, if raising that is what it takes.

    Args:
        clause: any.
        max_price: micro-credits per allocation.
        left: of the budget.
        budget: all of it.
    """
    change = parse_change(clause.nearest)
    if clause.dimension != "price" or change is None or not left < change.amount <= max_price:
        return clause
    return Clause("budget", clause.wanted, clause.observed, str(Change("budget", budget - left + change.amount)))


def _nearest_of(said: Mapping[PeerId, tuple[Clause, ...]], request: BidRequest) -> tuple[Clause, ...]:
    """What stands in the way at the node nearest to a yes."""
    return said[min(said, key=lambda peer: (*_distance(said[peer], request), peer))]


def _distance(clauses: tuple[Clause, ...], request: BidRequest) -> tuple[int, int]:
    """How many changes away a yes is, and how large they are together, in thousandths of what is asked for."""
    ways = {clause.nearest or clause.wanted for clause in clauses}
    size = sum(_size(clause, request) for clause in clauses)
    return (0 if all(clause.dimension == CONSTRAINT for clause in clauses) else len(ways)), size


def _size(clause: Clause, request: BidRequest) -> int:
    change = parse_change(clause.nearest)
    quantity = QUANTITIES.get(change.dimension) if change is not None else None
    if change is None or quantity is None:
        return _EXCHANGE
    small, large = sorted((quantity.get(request), change.amount))
    return 1_000 * large // max(small, 1)


def _in_words(clauses: tuple[Clause, ...]) -> str:
    """What it would take. A price for more than can be had says nothing: with less, it is another one."""
    lowers = any(clause.nearest and clause.dimension in _PAID_FOR for clause in clauses)
    shown = [clause for clause in clauses if not (lowers and clause.dimension in ("price", "budget"))]
    said = dict.fromkeys(c.nearest or _as_said(c) for c in shown)
    return "; ".join(said) + (", which lowers the price as well" if len(shown) < len(clauses) else "")


def _as_said(clause: Clause) -> str:
    if clause.dimension == CONSTRAINT:
        return f"without the constraint {clause.wanted}, which is {clause.observed}"
    return f"{clause.dimension}: wanted {clause.wanted}, observed {clause.observed}"


def _counted(declined: int, ruled_out: int) -> str:
    if ruled_out:
        bids = f"{format_count(ruled_out, 'bid was', 'bids were')} excluded by the job's own constraints"
        return f"{format_count(declined, 'node')} declined, {bids}" if declined else bids
    return "the only node declined" if declined == 1 else f"all {format_count(declined, 'node')} declined"


def _is_short(auction: Auction) -> bool:
    """Whether it is the budget, or what is left of it, that stands in the way rather than the price."""
    return affordable(auction) < terms_of(auction).max_price


def _what_is_left(auction: Auction) -> str:
    terms = terms_of(auction)
    budget, left = format_credits(terms.budget), format_credits(max(0, money_left(auction)))
    if money_left(auction) == terms.budget:
        return f"its budget of {budget} pays for no attempt"
    return f"what is left of its budget of {budget}, {left}, pays for no further attempt"
