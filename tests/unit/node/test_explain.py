"""Verdicts follow from what was asked, what was answered and who is known; the counts always add up."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.cli.blocks import Line, Table
from dms.cli.views.explain import explanation as screen
from dms.node.explain import (
    Inquiry,
    Reply,
    answers_of,
    dry_request,
    explanation,
    lost_meanwhile,
    opening_request,
    whom_to_ask,
    with_agents,
)
from dms_proto.capability import Capability, Price, Resources
from dms_proto.ids import PeerId, bid_id, peer_id_of, request_id
from dms_proto.market.auction_terms import Terms
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.explain import Outcome
from dms_proto.market.named_node import UNREACHABLE
from dms_proto.market.preferences import Preferences
from dms_proto.membership.machine import Membership, Peer, PeerPhase
from dms_proto.messages import Bid, Clause, Hello
from dms_proto.reputation.silence import SetAside, Word
from dms_proto.units import GIB
from dms_proto.work import PORT_AGENT_BYTES, SANDBOX, Task

ME, *OTHERS = (peer_id_of(bytes([number]) * 32) for number in range(1, 9))
JOB = request_id(b"0123456789abcdef")
TERMS = Terms(JOB, ME, Task("scripted"), Capability(Resources(1000)), max_price=100)
NOW = 1_000_000
SHORT = (Clause("cpu", "1 core", "0.5 cores free", "cpu 0.5"),)


def peer(id_: PeerId, phase: PeerPhase = PeerPhase.GREETED, **fields: object) -> Peer:
    hello = Hello(1, "dms", NOW, "", "", (), Capability(), accepts_work=bool(fields.pop("accepts_work", True)))
    return Peer(id_, phase, hello=hello, seen_at=NOW - 5_000, **fields)  # type: ignore[arg-type]


def members(*peers: Peer) -> Membership:
    return Membership(ME, peers={known.peer: known for known in peers})


def bid(provider: PeerId, price: int = 10) -> Bid:
    offer = Capability(Resources(4000))
    return Bid(JOB, 0, 0, bid_id(JOB, provider, 0), offer, 1, Price(), price, NOW, 1000)


def inquiry(asked: tuple[PeerId, ...], answers: dict[PeerId, Reply], **fields: object) -> Inquiry:
    request = opening_request(TERMS)
    given = {"preferences": Preferences(), "reached": frozenset()} | fields
    return Inquiry(request, asked=frozenset(asked), answers=answers, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "asked", "answer", "outcome", "says"),
    [
        (peer(OTHERS[0]), True, Reply(bid=bid(OTHERS[0])), Outcome.BID, ""),
        (peer(OTHERS[0]), True, Reply(clauses=SHORT), Outcome.DECLINED, ""),
        (peer(OTHERS[0]), True, None, Outcome.SILENT, "last heard of 5 s ago"),
        (peer(OTHERS[0]), True, Reply(clauses=(UNREACHABLE,)), Outcome.UNREACHABLE, "lost"),
        (peer(OTHERS[0], PeerPhase.MET, left_because="closed"), False, None, Outcome.UNREACHABLE, "closed"),
        (peer(OTHERS[0], PeerPhase.MET), True, None, Outcome.SILENT, "not answered"),
        (peer(OTHERS[0], PeerPhase.REFUSED, refused_because="too old"), False, None, Outcome.UNREACHABLE, "too old"),
        (peer(OTHERS[0]), False, None, Outcome.NOT_ASKED, "later rounds"),
        (peer(OTHERS[0], accepts_work=False), False, None, Outcome.NOT_ASKED, "takes no work"),
        (peer(OTHERS[0], PeerPhase.MET, accepts_work=False), False, None, Outcome.UNREACHABLE, "not connected"),
        (peer(OTHERS[0], accepts_work=False), True, None, Outcome.SILENT, "5 s ago; by now it takes no work"),
    ],
)
def test_each_node_gets_the_verdict_that_fits(
    known: Peer, asked: bool, answer: Reply | None, outcome: Outcome, says: str
) -> None:
    said = inquiry((known.peer,) if asked else (), {} if answer is None else {known.peer: answer})
    explained = explanation(said, members(known), NOW)
    (verdict,) = explained.verdicts
    assert verdict.outcome is outcome
    assert says in verdict.detail
    assert sum(explained.counts.values()) == 1


def test_a_bid_that_the_requester_rules_out_is_a_no_with_the_rule() -> None:
    own = Preferences(constraints=("offer.cpu > 8.0",))
    explained = explanation(
        inquiry((OTHERS[0],), {OTHERS[0]: Reply(bid=bid(OTHERS[0]))}, preferences=own), members(), NOW
    )
    (verdict,) = explained.verdicts
    assert verdict.outcome is Outcome.DECLINED
    assert verdict.clauses[0].wanted == "offer.cpu > 8.0"


def test_a_gossiped_request_may_have_reached_who_was_not_asked_by_name() -> None:
    said = inquiry((), {}, reached=frozenset({OTHERS[0]}))
    explained = explanation(said, members(peer(OTHERS[0]), peer(OTHERS[1])), NOW)
    assert {verdict.peer: verdict.outcome for verdict in explained.verdicts} == {
        OTHERS[0]: Outcome.SILENT,
        OTHERS[1]: Outcome.NOT_ASKED,
    }


def test_gossip_that_passes_through_a_node_that_takes_no_work_is_no_question_to_it() -> None:
    said = inquiry((), {}, reached=frozenset({OTHERS[0], OTHERS[1]}))
    explained = explanation(said, members(peer(OTHERS[0]), peer(OTHERS[1], accepts_work=False)), NOW)
    told = {verdict.peer: (verdict.outcome, verdict.detail) for verdict in explained.verdicts}
    assert told[OTHERS[0]][0] is Outcome.SILENT
    assert told[OTHERS[1]] == (Outcome.NOT_ASKED, "it takes no work")
    assert sum(explained.counts.values()) == 2


def test_of_a_job_that_is_over_today_s_members_say_nothing_of_then() -> None:
    """Who was met, left or stopped taking work since was judged as if it had been so when the job asked: silent, or unreachable."""
    asked, met_since, left_since, idle, left_before = OTHERS[:5]
    known = members(
        peer(asked, PeerPhase.MET, left_because="closed"),
        peer(met_since),
        peer(left_since, PeerPhase.MET, left_because="closed"),
        peer(idle, accepts_work=False),
        msgspec.structs.replace(peer(left_before, PeerPhase.MET, left_because="closed"), seen_at=NOW - 20_000),
    )
    said = inquiry((asked,), {}, reached=frozenset({met_since, left_since}), opened_at=NOW - 10_000)

    told = {verdict.peer: verdict for verdict in explanation(said, known, NOW, is_over=True).verdicts}

    assert (told[asked].outcome, told[asked].today) == (Outcome.SILENT, False)
    for since in (met_since, left_since, idle):
        assert (told[since].outcome, told[since].today) == (Outcome.NOT_ASKED, True)
    assert told[idle].detail == "it takes no work"
    assert (told[left_before].outcome, told[left_before].today) == (Outcome.UNREACHABLE, False), "and was away then"


def test_the_screen_says_which_verdicts_are_of_today() -> None:
    said = inquiry((), {}, opened_at=NOW - 10_000)
    found = explanation(said, members(peer(OTHERS[0])), NOW, is_over=True)
    (table,) = (block for block in screen("a job", found, {}) if isinstance(block, Table))
    assert [row[-1] for row in table.rows] == [
        "not asked by name; whether gossip reached it was not noted, as known now"
    ]


def test_it_is_said_whose_bid_was_taken_last_and_who_was_not_asked_for_that() -> None:
    """It was silent when it had won: all that was said of it was that it was not asked by name."""
    aside = SetAside(NOW + 30_000, Word.ANSWER, 2)
    answers = {OTHERS[0]: Reply(bid=bid(OTHERS[0]), facts=BidderFacts(aside=aside))}
    said = inquiry((OTHERS[0],), answers, passed_over={OTHERS[0]: aside, OTHERS[1]: aside}, opened_at=NOW - 10_000)

    found = explanation(said, members(peer(OTHERS[0]), peer(OTHERS[1])), NOW, is_over=True)

    assert [(verdict.outcome, verdict.aside) for verdict in found.verdicts] == [
        (Outcome.BID, aside),
        (Outcome.NOT_ASKED, aside),
    ]
    (table,) = (block for block in screen("a job", found, {}) if isinstance(block, Table))
    last = "taken last: 2 commits unanswered, until 1970-01-01 00:17:10.000Z"
    assert [row[-1] for row in table.rows] == [f"0.00001 credits · {last}", f"not asked while others could be · {last}"]


def test_of_who_was_asked_and_not_waited_for_that_is_said() -> None:
    said = inquiry((OTHERS[0],), {}, unawaited={OTHERS[0]: 4})
    (verdict,) = explanation(said, members(peer(OTHERS[0])), NOW).verdicts
    assert verdict.detail == (
        "asked, and has not answered; not waited for: 4 rounds before unanswered; last heard of 5 s ago"
    )


def test_of_the_memory_asked_for_it_is_said_what_leads_into_the_sandbox() -> None:
    task = msgspec.structs.replace(TERMS.task, executor=SANDBOX, ports=(8080,))
    terms = msgspec.structs.replace(TERMS, task=task, needs=Capability(Resources(1000, GIB)))
    found = with_agents(explanation(inquiry((), {}), members(), NOW), terms)
    assert found.agent_bytes == PORT_AGENT_BYTES
    lines = [block.text for block in screen("a job", found, {}) if isinstance(block, Line)]
    assert "of its memory, 48 MiB are for what leads into its sandbox" in lines
    assert with_agents(found, TERMS).agent_bytes == 0


def test_bids_come_first_the_cheapest_of_them_before_the_others() -> None:
    answers = {
        OTHERS[0]: Reply(clauses=SHORT),
        OTHERS[1]: Reply(bid=bid(OTHERS[1], 30)),
        OTHERS[2]: Reply(bid=bid(OTHERS[2], 20)),
    }
    explained = explanation(inquiry(tuple(answers), answers), members(), NOW)
    assert [verdict.peer for verdict in explained.verdicts] == [OTHERS[2], OTHERS[1], OTHERS[0]]
    assert str(explained.suggestions[0]) == "lower cpu 1 -> 0.5: +1 node"


def test_a_dry_run_asks_everybody_who_takes_work_and_stands_nowhere() -> None:
    known = members(peer(OTHERS[0]), peer(OTHERS[1], accepts_work=False), peer(OTHERS[2], PeerPhase.CONNECTED))
    assert whom_to_ask(known, self_bids=True) == (OTHERS[0], ME)
    assert whom_to_ask(known, self_bids=False) == (OTHERS[0],)
    request = dry_request(TERMS)
    assert (request.dry_run, request.stands_ms, request.request_id) == (True, 0, JOB)


def test_a_node_that_went_away_while_it_was_asked_cannot_be_reached_and_is_not_silent() -> None:
    answered, gone, quiet = OTHERS[:3]
    after = members(peer(answered), peer(gone, PeerPhase.MET, left_because="closed"), peer(quiet))
    heard = {answered: bid(answered)}
    assert lost_meanwhile((answered, gone, quiet, ME), heard, after) == {gone: (UNREACHABLE,)}

    said = inquiry((answered, gone, quiet), answers_of({**heard, **lost_meanwhile((gone,), heard, after)}, {}))
    outcomes = {verdict.peer: verdict.outcome for verdict in explanation(said, after, NOW, is_over=True).verdicts}
    assert outcomes == {answered: Outcome.BID, gone: Outcome.UNREACHABLE, quiet: Outcome.SILENT}


def test_a_node_that_has_not_introduced_itself_cannot_be_asked_yet() -> None:
    known = members(peer(OTHERS[0], PeerPhase.CONNECTED))
    (verdict,) = explanation(inquiry((), {}), known, NOW, is_over=True).verdicts
    assert (verdict.outcome, verdict.detail) == (
        Outcome.UNREACHABLE,
        "connected, and has not introduced itself yet",
    )


@given(st.data())
def test_every_node_known_asked_or_heard_of_counts_exactly_once(data: st.DataObject) -> None:
    phases = st.sampled_from(list(PeerPhase))
    met = data.draw(st.lists(st.sampled_from(OTHERS), unique=True))
    known = [peer(id_, data.draw(phases), accepts_work=data.draw(st.booleans())) for id_ in met]
    asked = tuple(data.draw(st.lists(st.sampled_from([ME, *OTHERS]), unique=True)))
    heard = data.draw(st.lists(st.sampled_from([ME, *OTHERS]), unique=True))
    answers = {id_: data.draw(st.sampled_from([Reply(bid=bid(id_)), Reply(clauses=SHORT)])) for id_ in heard}
    explained = explanation(inquiry(asked, answers), members(*known), NOW)
    everybody = {known_.peer for known_ in known} | set(asked) | set(heard)
    assert {verdict.peer for verdict in explained.verdicts} == everybody
    assert len(explained.verdicts) == sum(explained.counts.values()) == len(everybody)


def test_a_node_that_was_lost_with_the_job_bids_no_more() -> None:
    gone, other = OTHERS[:2]
    note = "ran it, which ended as provider_lost: it could not be reached any more"
    answers = {gone: Reply(bid=bid(gone, 5), note=note, lost=True), other: Reply(bid=bid(other, 20))}
    found = explanation(inquiry((gone, other), answers), members(), NOW)

    told = {verdict.peer: (verdict.outcome, verdict.detail) for verdict in found.verdicts}
    assert told == {other: (Outcome.BID, ""), gone: (Outcome.UNREACHABLE, f"it {note}")}


def explained_as(**changed: object) -> Inquiry:
    terms = msgspec.structs.replace(TERMS, **changed)
    answers = {OTHERS[0]: Reply(clauses=(Clause("price", "at most 0.00001 credits", "0.00002", "max price 0.00002"),))}
    return Inquiry(opening_request(terms), Preferences(), frozenset(), frozenset(), answers, terms.max_price)


def test_what_the_budget_keeps_from_being_paid_is_a_matter_of_the_budget() -> None:
    found = explanation(explained_as(budget=10), members(), NOW)
    assert [str(suggestion) for suggestion in found.suggestions] == ["raise budget 0.00001 -> 0.00002: +1 node"]
    assert found.verdicts[0].clauses[0].dimension == "budget"

    without = explanation(explained_as(max_price=10), members(), NOW)
    assert [str(suggestion) for suggestion in without.suggestions] == ["raise max price 0.00001 -> 0.00002: +1 node"]


@pytest.mark.parametrize(
    ("constraint", "helps"),
    [
        ("offer.memory_gib >= 4.0", False),
        ("offer.memory_gib >= 1.0", True),
        ("price < 0.0001", True),
        ("offer.slots > 5", True),
        ("offer.memory_gib < 1.0", True),
    ],
)
def test_no_change_is_suggested_that_a_constraint_would_make_vain(constraint: str, helps: bool) -> None:
    hello = Hello(1, "dms", NOW, "", "", (), Capability(Resources(500, 2 * GIB)))
    known = Peer(OTHERS[0], PeerPhase.GREETED, hello=hello, seen_at=NOW)
    said = inquiry((OTHERS[0],), {OTHERS[0]: Reply(clauses=SHORT)}, preferences=Preferences(constraints=(constraint,)))
    found = explanation(said, members(known), NOW)
    assert bool(found.suggestions) is helps
