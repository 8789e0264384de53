"""Why a job runs where it does, in words."""

from __future__ import annotations

from dms.cli.text import plain
from dms.cli.views.explain import explanation
from dms.testing.samples import PROVIDER, REQUESTER
from dms_proto.capability import ExecutorOffer, Isolation
from dms_proto.ids import short
from dms_proto.market.explain import Explanation, NodeVerdict, Outcome
from dms_proto.market.seekers import turn_in_words
from dms_proto.market.set_dimensions import judge_executors
from dms_proto.messages import Clause

OWED = Clause("debt", "1 credit", "0 credits may yet be owed to it")


def shown(*verdicts: NodeVerdict) -> list[str]:
    return list(plain(explanation("job", Explanation(verdicts, {}, ()), {})))


def test_where_the_debt_limit_alone_stands_in_the_way_the_command_that_raises_it_is_named() -> None:
    lines = shown(NodeVerdict(PROVIDER.peer_id, Outcome.DECLINED, (OWED,)))
    assert f"  a higher debt limit (dms account limit {short(PROVIDER.peer_id)} AMOUNT --ours): +1 node" in lines


def test_where_more_stands_in_the_way_it_is_not() -> None:
    lines = shown(NodeVerdict(REQUESTER.peer_id, Outcome.DECLINED, (OWED, Clause("memory", "2 GiB", "1 GiB"))))
    assert not any("--ours" in line for line in lines)


def test_where_an_executor_is_not_there_it_says_who_can_do_what() -> None:
    has = ExecutorOffer("sandbox", "1", Isolation.NAMESPACES)
    clauses = tuple(
        verdict.clause
        for verdict in judge_executors((ExecutorOffer("oci", "", Isolation.NONE),), (has,))
        if verdict.clause is not None
    )
    lines = shown(NodeVerdict(PROVIDER.peer_id, Outcome.DECLINED, clauses))
    assert any("no executor oci there (executors: sandbox); its owner can enable it" in line for line in lines)


def test_a_job_that_waits_for_its_turn_says_so_first() -> None:
    _title, first, *_rest = plain(explanation("job", Explanation((), {}, (), turn=turn_in_words(412)), {}))
    assert first == "waits for its turn: 412 of this node's jobs are before it"
