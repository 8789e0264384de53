"""Why a job runs where it does, or does not: outcomes with counts, reasons grouped, the changes that would help, and each node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from dms.cli.blocks import Block, Line, Table
from dms.cli.views.words import called, short, taken_last
from dms.rpc.api.jobs import DecisionView
from dms_proto.market.explain import Explanation, NodeVerdict, Outcome
from dms_proto.market.impossible import DEBT
from dms_proto.market.second_price import words_of
from dms_proto.market.verdicts import CONSTRAINT
from dms_proto.messages import Clause
from dms_proto.units import format_bytes, format_count, format_credits

NODES_SHOWN: Final = 30
"""Nodes listed one by one unless all are asked for."""
_WORDS: Final = {
    Outcome.BID: "bid",
    Outcome.DECLINED: "declined",
    Outcome.SILENT: "silent",
    Outcome.UNREACHABLE: "unreachable",
    Outcome.NOT_ASKED: "not asked",
}
_TONES: Final = {
    Outcome.BID: "good",
    Outcome.DECLINED: "warn",
    Outcome.SILENT: "bad",
    Outcome.UNREACHABLE: "bad",
    Outcome.NOT_ASKED: "dim",
}
_NO_EXECUTOR: Final = "not there; executors: "
"""How a decline says that a node has none of that name; what follows are those it has."""


def explanation(
    title: str, found: Explanation, names: Mapping[str, str], *, every_node: bool = False
) -> Iterator[Block]:
    """The whole story. The counts add up to the nodes known. `names`: of peers, by PeerID."""
    known = len(found.verdicts)
    yield Line(f"{title}   {format_count(known, 'node')} known", "strong")
    if found.turn:
        yield Line(found.turn, "warn")
    if found.agent_bytes:
        yield Line(f"of its memory, {format_bytes(found.agent_bytes)} are for what leads into its sandbox", "dim")
    yield from _summary(found, names)
    if not known:
        yield Line("no other node is known; dms join INVITATION, or dms doctor", "warn")
    if helping := [*_without_constraints(found.verdicts), *_debt_limits(found.verdicts), *_changes(found)]:
        yield Line("what would help:")
        yield from (Line(f"  {text}") for text in helping)
    elif known and not found.counts.get(Outcome.BID):
        yield Line("no single change to the job would gain a bid", "dim")
    yield from _nodes(found.verdicts, names, every_node=every_node)


def _changes(found: Explanation) -> Iterator[str]:
    for suggestion in found.suggestions:
        waiting = f" ({suggestion.waits} of them also if you wait)" if suggestion.waits else ""
        yield f"{suggestion}{waiting}"


def _without_constraints(verdicts: Sequence[NodeVerdict]) -> Iterator[str]:
    """The constraints of the job that alone keep nodes out, the one that keeps out most first."""
    alone = Counter(
        v.clauses[0].wanted for v in verdicts if len(v.clauses) == 1 and v.clauses[0].dimension == CONSTRAINT
    )
    for source, number in alone.most_common():
        yield f"without the constraint {source}: +{format_count(number, 'node')}"


def _debt_limits(verdicts: Sequence[NodeVerdict]) -> Iterator[str]:
    """What the owner of this node can do where its debt limit alone stands in the way."""
    alone = [v.peer for v in verdicts if [clause.dimension for clause in v.clauses] == [DEBT]]
    if alone:
        yield f"a higher debt limit (dms account limit {short(alone[0])} AMOUNT --ours): +{format_count(len(alone), 'node')}"


def _summary(found: Explanation, names: Mapping[str, str]) -> Iterator[Line]:
    for outcome in Outcome:
        verdicts = [verdict for verdict in found.verdicts if verdict.outcome is outcome]
        if not verdicts:
            continue
        match outcome:
            case Outcome.BID:
                best = min(verdicts, key=lambda verdict: (bool(verdict.detail), verdict.price))
                yield _row(outcome, len(verdicts), f"best {format_credits(best.price)}, {called(best.peer, names)}")
            case Outcome.DECLINED:
                for text, number in _reasons(verdicts):
                    yield _row(outcome, number, text)
            case _:
                yield _row(outcome, len(verdicts), _node_detail(verdicts[0]))


def _row(outcome: Outcome, number: int, text: str) -> Line:
    return Line(f"{number:>6} {_WORDS[outcome]:<12} {text}", _TONES[outcome])


def _reasons(verdicts: Sequence[NodeVerdict]) -> Iterable[tuple[str, int]]:
    """Declines grouped by the dimensions that do not fit, the most frequent first, each with what the nearest of them says."""
    groups: dict[tuple[str, ...], list[NodeVerdict]] = {}
    for verdict in verdicts:
        groups.setdefault(tuple(clause.dimension for clause in verdict.clauses), []).append(verdict)
    for dimensions, group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        first = group[0].clauses[0] if group[0].clauses else Clause("unknown", "", "no reason given")
        others = f" (and {', '.join(dimensions[1:])})" if len(dimensions) > 1 else ""
        yield f"{_clause(first)}{others}", len(group)


def _clause(clause: Clause) -> str:
    nearest = f"; would take {clause.nearest}" if clause.nearest else ""
    passing = "; waiting may help" if clause.passing else ""
    kind, _, name = clause.dimension.partition(":")
    if kind == "executor" and clause.observed.startswith(_NO_EXECUTOR):
        others = clause.observed.removeprefix(_NO_EXECUTOR)
        return f"no executor {name} there (executors: {others}); its owner can enable it in executors.enabled"
    return f"{clause.dimension}: wanted {clause.wanted}, there {clause.observed}{nearest}{passing}"


def _nodes(verdicts: Sequence[NodeVerdict], names: Mapping[str, str], *, every_node: bool) -> Iterator[Block]:
    shown = verdicts if every_node else verdicts[:NODES_SHOWN]
    rows = [(called(verdict.peer, names), _WORDS[verdict.outcome], _node_detail(verdict)) for verdict in shown]
    if rows:
        yield Line()
        yield Table(("NODE", "VERDICT", "WHY"), rows)
    if len(verdicts) > len(shown):
        yield Line(f"and {len(verdicts) - len(shown)} more; --all shows every node", "dim")


def _node_detail(verdict: NodeVerdict) -> str:
    last = taken_last(verdict.aside)
    if verdict.outcome is Outcome.BID:
        return " · ".join(filter(None, (format_credits(verdict.price), last, verdict.detail)))
    why = " · ".join(_clause(clause) for clause in verdict.clauses) or verdict.detail
    why = " · ".join(filter(None, (why, last)))
    return f"{why}, as known now" if verdict.today else why


def decision(view: DecisionView, names: Mapping[str, str]) -> Iterator[Block]:
    """How the choice was made, and whether computing it again gives the same. `names`: of peers, by PeerID."""
    ranking = view.decision.ranking
    yield Line(
        f"decision {view.number} of {view.of} for {short(view.job_id)}   {format_count(len(view.decision.candidates), 'bid')}",
        "strong",
    )
    if view.decision.comparator or view.decision.note:
        yield Line(f"compared by {view.decision.comparator or f'dms: {view.decision.note}'}", "dim")
    prices = {candidate.bid_id: candidate.price for candidate in view.decision.candidates}
    for place, entry in enumerate(ranking.ranked, 1):
        mark = "chosen" if entry.provider in view.winners else ""
        reasons = f"   {'; '.join(entry.reasons)}" if entry.reasons else ""
        text = f"{place:>4}. {called(entry.provider, names)}  {format_credits(prices[entry.bid_id])}  {ranking.story(entry)}{reasons}"
        yield Line(f"{text}  {mark}".rstrip(), "good" if mark else "")
    for left_out in ranking.excluded:
        yield Line(
            f"   -  {called(left_out.provider, names)}  left out: {' · '.join(_clause(clause) for clause in left_out.clauses)}",
            "dim",
        )
    if view.award is not None:
        yield Line(words_of(view.award))
    if view.replayed:
        yield Line("computed again from the stored facts: the same order", "good")
    elif view.why_not:
        yield Line(f"cannot be computed again: {view.why_not}", "warn")
    else:
        yield Line("computed again from the stored facts: NOT the same order", "bad")
