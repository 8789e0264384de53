"""A job that names its node, among whole nodes: only that one is asked, and only that one runs it."""

from __future__ import annotations

import pytest

from dms.rpc.api.jobs import JobParams
from dms.rpc.api.market import AskParams
from dms.testing.market import peer_of, until
from dms_actors.events import from_row
from dms_actors.letters import Told
from dms_proto.capability import Resources
from dms_proto.errors import UserError
from dms_proto.market.auction_events import RequestAnnounced
from dms_proto.market.auction_stimuli import CancelAsked
from dms_proto.market.explain import Outcome
from dms_proto.verification.policy import Policy, Verification
from dms_proto.work import EndReason

from .conftest import Local, spec


async def asked(local: Local, job: str) -> set[str]:
    """Whom a job has asked so far."""
    rows = await local.market.nodes[0].services.store.query(stream=job, kinds=("RequestAnnounced",))
    events = [from_row(row) for row in rows]
    return {peer for event in events if isinstance(event, RequestAnnounced) for peer in event.asked}


async def test_it_runs_there_and_nobody_else_hears_of_it(local: Local) -> None:
    there = peer_of(local.market.nodes[2])
    view = await local.run(spec("print", "x", node=there[-8:], count=6))
    assert {slot.attempts[0].provider for slot in view.slots} == {there}
    assert await asked(local, view.summary.job_id) == {there}
    assert view.spec.node == there
    explained = await local.api.job_explain(JobParams(view.summary.job_id))
    others = {verdict.outcome for verdict in explained.verdicts if verdict.peer != there}
    assert others == {Outcome.NOT_ASKED}


async def test_this_node_may_be_named_as_well(local: Local) -> None:
    me = peer_of(local.market.nodes[0])
    view = await local.run(spec("print", "x", node=me))
    assert [slot.attempts[0].provider for slot in view.slots] == [me]


async def test_what_it_cannot_run_runs_nowhere_and_ends_with_its_reason(local: Local) -> None:
    there = peer_of(local.market.nodes[1])
    view = await local.run(spec("print", "x", node=there, needs=Resources(64_000)))
    assert view.summary.reason is EndReason.IMPOSSIBLE
    assert f"the node …{there[-8:]} declined: cpu: wanted 64 cores, observed 4 cores" in view.summary.detail
    assert not any(slot.attempts for slot in view.slots)


async def test_it_waits_for_a_busy_node_though_others_are_free(local: Local) -> None:
    there = peer_of(local.market.nodes[1])
    whole = Resources(4_000)
    first = await local.submit(spec("wait", node=there, needs=whole))
    await until(lambda: local.show(first), lambda view: view.summary.running == 1)
    second = await local.submit(spec("print", "x", node=there, needs=whole))
    waiting = await until(lambda: local.show(second), lambda view: "is busy" in view.summary.detail)
    assert waiting.summary.detail.startswith(f"the node …{there[-8:]} is busy: cpu:")
    local.market.nodes[0].services.orchestrators.tell(first, Told(CancelAsked(), "test"))
    ended = await until(lambda: local.show(second), lambda view: bool(view.summary.ended_at))
    assert ended.summary.reason is EndReason.COMPLETED
    assert ended.slots[0].attempts[0].provider == there


async def test_a_node_nobody_knows_and_one_that_takes_no_work_are_refused_at_once(local: Local) -> None:
    with pytest.raises(UserError, match="no peer 'nobody' here"):
        await local.submit(spec("print", "x", node="nobody"))
    there = peer_of(local.market.nodes[1])
    await local.apis[1].node_pause()
    await until(
        local.market.nodes[0].state,
        lambda state: not state.membership.peers[there].hello.accepts_work,
    )
    with pytest.raises(UserError, match="takes no work"):
        await local.submit(spec("print", "x", node=there))


async def test_what_takes_several_nodes_is_refused(local: Local) -> None:
    there = peer_of(local.market.nodes[1])
    with pytest.raises(UserError, match="does not go with verify"):
        await local.submit(spec("print", "x", node=there, verify=Verification(Policy.REPLICATE)))


async def test_asking_asks_it_alone(local: Local) -> None:
    there = peer_of(local.market.nodes[1])
    explained = await local.api.market_ask(AskParams(spec("print", "x", node=there)))
    outcomes = {verdict.peer: verdict.outcome for verdict in explained.verdicts}
    assert outcomes.pop(there) is Outcome.BID
    assert set(outcomes.values()) == {Outcome.NOT_ASKED}
