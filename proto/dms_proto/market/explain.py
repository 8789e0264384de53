"""Why is my job not running: one verdict per known node, counts that add up, and the single changes that would gain bids.

A suggestion is a change in one dimension; it gains the nodes for which that dimension alone stands in the way. Because changes only ask for less
(see `changes`), applying one never loses a node that bids already; exchanging the job class can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from dms_proto.ids import PeerId
from dms_proto.market.changes import QUANTITIES, Change, apply_change, current, parse_change
from dms_proto.messages import BidRequest, Clause
from dms_proto.reputation.silence import SetAside
from dms_proto.units import format_count

MAX_SUGGESTIONS: Final = 16


class Outcome(StrEnum):
    """What became of a request at one node."""

    BID = "bid"
    DECLINED = "declined"
    SILENT = "silent"
    UNREACHABLE = "unreachable"
    NOT_ASKED = "not_asked"


class NodeVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """One node's answer, or what there is instead of one.

    Attributes:
        peer: the node.
        outcome: BID, DECLINED with clauses; SILENT: asked, no answer; UNREACHABLE: could not be asked; NOT_ASKED: beyond the request's reach.
        clauses: every reason of a decline.
        price: of a bid, micro-credits per allocation.
        detail: for people: when a silent node was last heard of, why one is unreachable.
        today: the job was over before: it rests on what is known of the node now, and not on what was known then.
        aside: that the node was silent lately when it had won: its bid was taken last, or others were asked before it.
    """

    peer: PeerId
    outcome: Outcome
    clauses: tuple[Clause, ...] = ()
    price: int = 0
    detail: str = ""
    today: bool = False
    aside: SetAside | None = None


class Suggestion(msgspec.Struct, frozen=True):
    """A single change to the request, and what it gains.

    Attributes:
        dimension: what is changed.
        change: in the words `changes.parse_change` reads and `apply` carries out.
        before: what the request asks for now; empty where that is not an amount.
        gains: the nodes that decline for this dimension alone.
        waits: how many of them have it, only not free now: there, waiting would help too.
    """

    dimension: str
    change: str
    before: str
    gains: tuple[PeerId, ...]
    waits: int = 0

    def __str__(self) -> str:
        """``lower memory 12 GiB -> 8 GiB: +3 nodes``."""
        nodes = f"+{format_count(len(self.gains), 'node')}"
        quantity = QUANTITIES.get(self.dimension)
        if quantity is None:
            return f"{self.change}: {nodes}"
        verb = "raise" if quantity.upwards else "lower"
        return f"{verb} {quantity.words} {self.before} -> {self.change.removeprefix(quantity.words + ' ')}: {nodes}"

    def apply(self, request: BidRequest) -> BidRequest:
        """The request with this change."""
        change = parse_change(self.change)
        return request if change is None else apply_change(request, change)


class Explanation(msgspec.Struct, frozen=True):
    """All that is known about a request's chances.

    Attributes:
        verdicts: one per node, in the order given.
        counts: nodes by outcome, every outcome listed; they add up to the nodes known.
        suggestions: most gained first; of equals, the smaller change first.
        turn: that it waits for its turn, and how many of this node's jobs are before it; empty: it does not.
        agent_bytes: of the memory that is asked for, what the agents take that lead into its sandbox.
    """

    verdicts: tuple[NodeVerdict, ...]
    counts: dict[Outcome, int]
    suggestions: tuple[Suggestion, ...]
    agent_bytes: int = 0
    turn: str = ""

    @property
    def impossible(self) -> bool:
        """Whether every known node has declined for a reason that waiting does not help: the request as written has no chance."""
        return bool(self.verdicts) and all(
            v.outcome is Outcome.DECLINED and not all(clause.passing for clause in v.clauses) for v in self.verdicts
        )


def explain(request: BidRequest, verdicts: Iterable[NodeVerdict]) -> Explanation:
    """Puts the verdicts of all known nodes on one request together.

    Raises:
        ValueError: two verdicts on one node: the counts would not add up.
    """
    given = tuple(verdicts)
    if len({verdict.peer for verdict in given}) != len(given):
        raise ValueError("a node has one verdict; two were given")
    counts = dict.fromkeys(Outcome, 0)
    for verdict in given:
        counts[verdict.outcome] += 1
    return Explanation(given, counts, suggest(request, given))


def suggest(request: BidRequest, verdicts: Sequence[NodeVerdict]) -> tuple[Suggestion, ...]:
    """Every single change that gains a node, at most `MAX_SUGGESTIONS`; most gained first, of equals the smaller change."""
    near = [(verdict, change) for verdict in verdicts if (change := _only_change(verdict)) is not None]
    distinct = sorted({change for _, change in near}, key=lambda change: (change.dimension, _size(change), change.text))
    suggestions = []
    for change in distinct:
        gained = [verdict for verdict, theirs in near if change.covers(theirs)]
        waits = sum(all(clause.passing for clause in verdict.clauses) for verdict in gained)
        peers = tuple(verdict.peer for verdict in gained)
        before = current(request, change.dimension)
        suggestions.append(Suggestion(change.dimension, str(change), before, peers, waits))
    suggestions.sort(key=lambda suggestion: -len(suggestion.gains))
    return tuple(suggestions[:MAX_SUGGESTIONS])


def _only_change(verdict: NodeVerdict) -> Change | None:
    """The one change that would make this node bid, if there is one."""
    if verdict.outcome is not Outcome.DECLINED or len(verdict.clauses) != 1:
        return None
    return parse_change(verdict.clauses[0].nearest)


def _size(change: Change) -> int:
    """Smaller changes first: those that lower keep more, those that raise add less."""
    quantity = QUANTITIES.get(change.dimension)
    if quantity is None:
        return 0
    return change.amount if quantity.upwards else -change.amount
