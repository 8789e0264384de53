"""market.*, bids.*, requests.*: asking without a job, and what was offered and declined on both sides."""

from __future__ import annotations

from dms.node.api import LocalApi
from dms.rpc.api.allocations import AllocationListParams
from dms.rpc.api.jobs import JobParams
from dms.rpc.api.market import (
    AskParams,
    BidListParams,
    BidState,
    Direction,
    PriceSuggestParams,
    RequestListParams,
    RequestView,
)
from dms.testing.market import peer_of, until
from dms_proto.capability import NOTHING, Resources
from dms_proto.market.explain import Outcome
from dms_proto.market.price_history import PRESENT
from dms_proto.units import GIB
from dms_proto.work import EndReason

from .conftest import Local, spec


async def test_asking_gives_one_verdict_per_node_and_locks_nothing(local: Local) -> None:
    before = [node.services.store.head().seq for node in local.market.nodes]
    explained = await local.api.market_ask(AskParams(spec("print", "x")))
    asked = ("BidMade", "RequestDeclined", "RequestOpened")
    for node, seq in zip(local.market.nodes, before, strict=True):
        assert not await node.services.store.query(kinds=asked, after_seq=seq)
    assert {verdict.peer for verdict in explained.verdicts} == {peer_of(node) for node in local.market.nodes}
    assert explained.counts[Outcome.BID] == 3
    for api in local.apis:
        assert (await api.node_capability()).locked == NOTHING


async def test_asking_for_too_much_says_what_each_node_lacks_and_what_would_help(local: Local) -> None:
    explained = await local.api.market_ask(AskParams(spec("x", needs=Resources(64_000, 64 * GIB))))
    assert explained.counts[Outcome.DECLINED] == 3
    assert {clause.dimension for clause in explained.verdicts[0].clauses} == {"cpu", "memory"}
    assert not explained.suggestions  # no single change helps
    cheap = await local.api.market_ask(AskParams(spec("x", max_price=1)))
    declined = [verdict for verdict in cheap.verdicts if verdict.outcome is Outcome.DECLINED]
    assert {verdict.clauses[0].dimension for verdict in declined} == {"price"}
    assert cheap.suggestions[0].dimension == "price"
    assert set(cheap.suggestions[0].gains) == {verdict.peer for verdict in declined}


async def test_a_bid_that_the_jobs_own_conditions_rule_out_counts_as_a_no(local: Local) -> None:
    explained = await local.api.market_ask(AskParams(spec("x", constraints=("offer.cpu > 100.0",))))
    assert explained.counts[Outcome.DECLINED] == 3
    assert all("conditions" in verdict.detail for verdict in explained.verdicts)


async def test_a_node_that_takes_no_work_is_not_asked_and_one_that_is_cut_off_cannot_be(local: Local) -> None:
    me, paused, cut = (peer_of(node) for node in local.market.nodes)
    await local.apis[1].node_pause()
    local.market.fabric.cut(me, cut)

    def is_known(state: object) -> bool:
        peers = state.membership.peers  # type: ignore[attr-defined]
        return len(state.membership.greeted()) == 1 and not peers[paused].hello.accepts_work  # type: ignore[attr-defined]

    await until(local.market.nodes[0].state, is_known)
    explained = await local.api.market_ask(AskParams(spec("x")))
    outcomes = {verdict.peer: verdict.outcome for verdict in explained.verdicts}
    assert outcomes == {me: Outcome.BID, paused: Outcome.NOT_ASKED, cut: Outcome.UNREACHABLE}
    known = (await local.api.node_status()).network.known
    assert sum(explained.counts.values()) == known + 1  # this node answers itself


async def test_a_silent_node_is_named_as_silent(local: Local) -> None:
    quiet = local.market.nodes[2].services
    quiet.network._listener = lambda _event: None  # it is connected, and does not hear any more
    explained = await local.api.market_ask(AskParams(spec("x")))
    outcomes = {verdict.peer: verdict.outcome for verdict in explained.verdicts}
    assert outcomes[peer_of(local.market.nodes[2])] is Outcome.SILENT
    assert "last heard of" in next(v.detail for v in explained.verdicts if v.outcome is Outcome.SILENT)


async def test_bids_and_requests_are_listed_on_both_sides_with_what_became_of_them(local: Local) -> None:
    view = await local.run(spec("print", "x"))
    job, winner = view.summary.job_id, view.slots[0].attempts[0].provider
    received = await local.api.bids_list(BidListParams(request_id=job[:10]))
    assert received.total == len(received.bids) == 3
    states = {bid.provider: bid.state for bid in received.bids}
    assert states.pop(winner) is BidState.COMMITTED
    assert set(states.values()) == {BidState.RELEASED}
    sent = await local.api.requests_list(RequestListParams(direction=Direction.SENT))
    assert [(r.request_id, r.direction, r.answer) for r in sent.requests] == [(job, Direction.SENT, "")]
    own = [bid for bid in received.bids if bid.provider == peer_of(local.market.nodes[0])]
    assert own[0].direction is Direction.BOTH
    for node, api in zip(local.market.nodes[1:], local.apis[1:], strict=True):
        (heard,) = await until(lambda api=api: _heard(api), lambda requests: requests[0].outcome != "open")
        assert (heard.answer, heard.requester) == ("bid", peer_of(local.market.nodes[0]))
        assert heard.outcome == ("won" if peer_of(node) == winner else "lost")
        (bid,) = (await api.bids_list(BidListParams(direction=Direction.SENT))).bids
        assert bid.state is (BidState.COMMITTED if peer_of(node) == winner else BidState.RELEASED)
        assert (await api.bids_list(BidListParams(open_only=True))).total == 0


async def test_a_declined_request_is_listed_with_its_reasons(local: Local) -> None:
    view = await local.run(spec("x", needs=Resources(64_000)))
    assert view.summary.reason is EndReason.IMPOSSIBLE
    query = RequestListParams(direction=Direction.RECEIVED)
    listed = await until(lambda: local.apis[1].requests_list(query), lambda seen: seen.total)
    heard = listed.requests[0]
    assert heard.answer == "declined"
    assert heard.clauses[0].dimension == "cpu"
    assert heard.needs.resources.cpu_millicores == 64_000
    assert (await local.apis[1].node_status()).market.declines == 1


async def test_prices_are_suggested_from_what_was_asked_of_this_node(local: Local) -> None:
    await local.api.node_pause()
    won = await local.run(spec("print", "x"))
    await local.api.node_resume()
    winner = won.slots[0].attempts[0].provider
    cheap = await local.run(spec("print", "x", max_price=1))  # its own node does it for nothing
    assert cheap.summary.reason is EndReason.COMPLETED
    large = await local.run(spec("x", max_price=1, needs=Resources(64_000)))  # declined for more than the price
    assert large.summary.reason is EndReason.IMPOSSIBLE

    seen = RequestListParams(direction=Direction.RECEIVED)
    for node, api in zip(local.market.nodes[1:], local.apis[1:], strict=True):
        await until(lambda api=api: api.requests_list(seen), lambda heard: heard.total == 3)
        await until(lambda api=api: _heard(api), lambda heard: all(one.outcome != "open" for one in heard))
        said = (await api.price_suggest(PriceSuggestParams())).history
        assert (said.won, said.lost) == ((1, 0) if peer_of(node) == winner else (0, 1))
        assert (said.too_dear, said.forgone, said.factor) == (1, 1, PRESENT)
    own = (await local.api.price_suggest(PriceSuggestParams())).history
    assert own.won + own.lost + own.too_dear == 0  # what it asked of itself says nothing


async def test_only_bids_that_can_still_be_taken_are_open(local: Local) -> None:
    job = await local.submit(spec("wait"))
    await until(lambda: local.api.alloc_list(AllocationListParams(active=True)), lambda seen: seen.total == 1)
    await until(lambda: local.api.bids_list(BidListParams(open_only=True)), lambda seen: seen.total == 0)
    assert (await local.api.bids_list(BidListParams())).total == 3
    await local.api.job_cancel(JobParams(job))


async def _heard(api: LocalApi) -> tuple[RequestView, ...]:
    return (await api.requests_list(RequestListParams(direction=Direction.RECEIVED))).requests
