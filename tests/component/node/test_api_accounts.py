"""account.*: what work and payments between real nodes leave in the books of both."""

from __future__ import annotations

import msgspec
import pytest

from dms.rpc.api.accounts import (
    AcceptParams,
    AccountView,
    DepositParams,
    DisputesParams,
    ForgiveParams,
    LimitParams,
    SettleBy,
    SettleParams,
    StatementParams,
)
from dms.rpc.api.jobs import JobParams, WaitParams
from dms.rpc.api.market import BidListParams, RequestListParams
from dms.testing.market import peer_of, until
from dms_actors.letters import Told
from dms_proto.accounts.iou import is_genuine
from dms_proto.allocation.stimuli import StopWished
from dms_proto.capability import Price
from dms_proto.errors import UserError
from dms_proto.ids import AllocationId, PeerId
from dms_proto.market.offer_state import PolicyWished
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.messages import AllocationStatus, Phase
from dms_proto.units import CREDIT, HOUR, MAX_QUANTITY
from dms_proto.wire import Envelope, read_frame
from dms_proto.work import Ending, EndReason, Limits, Usage

from .conftest import START, Local, priced, spec


async def account_of(local: Local, index: int, peer: PeerId) -> AccountView | None:
    """How the book of a node stands with a peer."""
    found = (await local.apis[index].account_show()).accounts
    return next((view for view in found if view.peer == peer), None)


async def answered(local: Local, me: PeerId, earned: int) -> AccountView:
    """The provider's account of the requester, once every claim has its receipt."""
    view = await until(
        lambda: account_of(local, 1, me), lambda view: view is not None and (view.earned, view.claimed) == (earned, 0)
    )
    assert view is not None
    return view


async def test_work_is_owed_in_both_books_and_survives_a_restart_of_either(local: Local) -> None:
    provider, me = await priced(local), peer_of(local.market.nodes[0])

    await local.run(spec("print", "x"))
    theirs, ours = await answered(local, me, START), await account_of(local, 0, provider)

    assert ours is not None
    assert (ours.owed, ours.spent, theirs.owed, theirs.disputed) == (-START, START, START, 0)
    for index, peer in ((0, provider), (1, me)):
        before = await account_of(local, index, peer)
        await local.restart(index)
        after = await account_of(local, index, peer)
        assert after is not None
        assert before is not None
        assert after.owed == before.owed


async def test_a_statement_lists_the_entries_of_one_peer_or_of_all(local: Local) -> None:
    provider, me = await priced(local), peer_of(local.market.nodes[0])
    job = (await local.run(spec("print", "x"))).summary.job_id
    await answered(local, me, START)

    ours = await local.api.account_statement(StatementParams(provider))
    theirs = await until(lambda: local.apis[1].account_statement(StatementParams()), lambda found: found.total == 2)

    assert [(entry.why, entry.job_id, entry.expense, entry.open) for entry in ours.entries] == [
        ("charge", job, START, -START)
    ]
    assert [entry.why for entry in theirs.entries] == ["receipt", "claim"]
    assert ours.entries[0].about == theirs.entries[0].about
    assert (await local.api.account_statement(StatementParams(peer_of(local.market.nodes[2]), 1))).total == 0


async def test_past_its_limit_a_peer_is_declined_until_it_has_paid(local: Local) -> None:
    provider, me = await priced(local), peer_of(local.market.nodes[0])
    await local.apis[1].account_limit(LimitParams(me, START))
    await local.run(spec("print", "x"))
    await answered(local, me, START)

    refused = await local.run(spec("print", "x", queue_ms=0))
    assert refused.summary.reason is EndReason.NO_BIDS
    (heard,) = (await local.apis[1].requests_list(RequestListParams(limit=1))).requests
    assert [(clause.dimension, clause.wanted, clause.passing) for clause in heard.clauses] == [
        ("credit", "0.001 credits", False)
    ]

    await local.apis[1].account_deposit(DepositParams(me, START, "invoice 1"))
    await local.api.account_deposit(DepositParams(provider, -START))
    assert (await local.run(spec("print", "x"))).summary.reason is EndReason.COMPLETED
    theirs, ours = await answered(local, me, 2 * START), await account_of(local, 0, provider)
    assert ours is not None
    assert (theirs.owed, theirs.paid, ours.owed, ours.paid) == (START, START, -START, -START)


async def test_an_iou_is_kept_by_the_other_and_proves_what_is_owed(local: Local) -> None:
    provider, me = await priced(local), peer_of(local.market.nodes[0])
    await local.run(spec("print", "x"))
    await answered(local, me, START)

    given = await local.api.account_settle(SettleParams(provider))
    kept = await until(lambda: account_of(local, 1, me), lambda view: view is not None and view.received is not None)

    assert kept is not None
    assert kept.received is not None
    assert kept.received == given.given
    assert is_genuine(kept.received)
    assert (kept.received.debtor, kept.received.amount) == (me, START)
    assert (kept.owed, kept.signed, given.owed, given.signed) == (START, START, -START, -START)


async def test_machines_of_one_owner_settle_each_in_its_own_book(local: Local) -> None:
    provider, me = await priced(local), peer_of(local.market.nodes[0])
    await local.run(spec("print", "x"))
    await answered(local, me, START)
    with pytest.raises(UserError, match="no machine of this node's owner"):
        await local.api.account_settle(SettleParams(provider, SettleBy.LOCAL))
    await local.apis[0]._wish(PolicyWished(ProviderPolicy(own_peers=(provider,))), "test")
    await local.apis[1]._wish(PolicyWished(ProviderPolicy(own_peers=(me,))), "test")

    ours = await local.api.account_settle(SettleParams(provider, SettleBy.LOCAL))
    theirs = await local.apis[1].account_settle(SettleParams(me, SettleBy.LOCAL))

    assert (ours.owed, theirs.owed) == (0, 0)
    assert (ours.paid, theirs.paid) == (-START, START)


async def test_a_peer_has_the_common_limit_until_it_has_its_own(local: Local) -> None:
    peer = peer_of(local.market.nodes[1])

    own = await local.api.account_limit(LimitParams(peer, 5))
    listed = await account_of(local, 0, peer)
    common = await local.api.account_limit(LimitParams(peer, None))

    assert (own.limit, listed == own, common.limit) == (5, True, 100 * CREDIT)
    with pytest.raises(UserError, match="nobody"):
        await local.api.account_limit(LimitParams("nobody", 5))


async def test_payments_add_up_to_no_more_than_an_account_can_hold(local: Local) -> None:
    """The IOU over more could be written and never read again: nothing that was asked afterwards was answered."""
    provider = peer_of(local.market.nodes[1])
    await local.api.account_deposit(DepositParams(provider, MAX_QUANTITY))
    with pytest.raises(UserError) as caught:
        await local.api.account_deposit(DepositParams(provider, MAX_QUANTITY))
    assert caught.value.code == "bad_argument"
    await local.api.account_settle(SettleParams(provider, SettleBy.IOU))
    view = await account_of(local, 0, provider)
    assert view is not None
    assert abs(view.owed) == MAX_QUANTITY


async def test_no_more_is_owed_to_a_peer_than_its_owner_lets_over_all_jobs(local: Local) -> None:
    provider = await priced(local)
    view = await local.api.account_limit(LimitParams(provider, START, ours=True))
    assert (view.debt_limit, view.debt_left) == (START, START)

    first = await local.submit(spec("wait"))
    await until(local.market.nodes[1].services.allocations.ids, bool)
    second = await local.submit(spec("print", "x"))
    waiting = await until(lambda: local.show(second), lambda view: "could do it" in view.summary.detail)

    explained = await local.api.job_explain(JobParams(second))
    (verdict,) = [node for node in explained.verdicts if node.peer == provider]
    assert [(clause.dimension, clause.wanted) for clause in verdict.clauses] == [("debt", "0.001 credits")]
    assert "passed over" in verdict.detail
    shown = await local.api.bids_list(BidListParams(request_id=second))
    assert {(bid.state, bid.reason.partition(":")[0]) for bid in shown.bids} == {("released", "debt")}
    assert waiting.summary.ended_at == 0

    await local.api.job_cancel(JobParams(first))
    await local.api.account_limit(LimitParams(provider, 2 * START, ours=True))
    ended = await local.api.job_wait(WaitParams(second, 20_000))
    assert ended.summary.reason is EndReason.COMPLETED
    ours = await account_of(local, 0, provider)
    assert ours is not None
    assert ours.owed >= -2 * START


async def over_claimed(local: Local) -> tuple[PeerId, PeerId, str]:
    """An allocation for which its provider asked more than its first word of it gives; gives provider, requester and the allocation."""
    provider, me = await priced(local), peer_of(local.market.nodes[0])
    await local.apis[1]._wish(PolicyWished(ProviderPolicy(tariff=Price(start=START, cpu_core_hour=1))), "test")
    asked, running = local.market.nodes[1].services, await local.submit(spec("wait"))
    (allocation,) = await until(asked.allocations.ids, bool)
    ending = Ending(EndReason.COMPLETED, 0)  # no time was used, for which no more than the fee is owed
    status = AllocationStatus(running, AllocationId(allocation), 4, Phase.ENDED, Usage(), ending, price=START + 1)
    asked.post.send(me, status, "test")
    await local.api.job_wait(WaitParams(running, 20_000))
    asked.allocations.tell(AllocationId(allocation), Told(StopWished(EndReason.CANCELLED), "test"))
    await until(asked.allocations.ids, lambda ids: not ids)
    return provider, me, allocation


async def disputed(local: Local, index: int) -> list[tuple[int, int, bool]]:
    """What a node knows to be in dispute: what was asked, what of it, and whether it asks itself."""
    found = await local.apis[index].account_disputes(DisputesParams())
    return [(dispute.asked, dispute.disputed, dispute.ours) for dispute in found.disputes]


@pytest.mark.parametrize("forgives", [True, False])
async def test_a_dispute_is_known_to_both_and_either_ends_it_in_both_books(local: Local, forgives: bool) -> None:
    provider, me, allocation = await over_claimed(local)
    await until(lambda: disputed(local, 0), lambda found: found == [(START + 1, 1, False)])
    await until(lambda: disputed(local, 1), lambda found: found == [(START + 1, 1, True)])
    ours = (await until(lambda: local.api.account_statement(StatementParams(provider)), lambda f: f.entries)).entries[0]
    theirs = await until(
        lambda: local.apis[1].account_statement(StatementParams(me)), lambda found: found.entries[0].why == "receipt"
    )
    assert "claimed; the tariff over" in ours.detail
    assert f"price: the provider says {START + 1}, the requester {START}" in theirs.entries[0].detail

    if forgives:
        await local.apis[1].account_forgive(ForgiveParams(me))
    else:
        await local.api.account_accept(AcceptParams(provider, allocation[:8]))
        await local.api.account_accept(AcceptParams(provider, allocation))

    for index in (0, 1):
        await until(lambda index=index: disputed(local, index), lambda found: not found)
    ours, theirs = await account_of(local, 0, provider), await account_of(local, 1, me)
    assert ours is not None
    assert theirs is not None
    owed = START if forgives else START + 1
    assert (ours.owed, theirs.owed, theirs.earned, theirs.disputed, ours.refused) == (-owed, owed, owed, 0, 0)
    for index, peer in ((0, provider), (1, me)):
        wanted = ("forgiven" if forgives else "accepted", allocation)
        await until(
            lambda index=index, peer=peer: local.apis[index].account_statement(StatementParams(peer)),
            lambda found: (found.entries[0].why, found.entries[0].about) == wanted,  # noqa: B023 - awaited here
        )
        assert (await local.apis[index].account_verify()).findings == ()


async def test_a_forgiving_that_was_lost_on_its_way_arrives_with_the_next_iou(local: Local) -> None:
    provider, me, _ = await over_claimed(local)
    await until(lambda: disputed(local, 0), bool)
    await until(lambda: disputed(local, 1), bool)
    fabric = local.market.fabric
    lost: list[bytes] = []

    def drops(sender: PeerId, _receiver: PeerId, frame: bytes) -> bool:
        if sender == provider:
            lost.append(frame)
        return sender == provider

    fabric.drops = drops
    await local.apis[1].account_forgive(ForgiveParams(me))
    await until(lambda: _found(lost), bool)
    fabric.drops = lambda _sender, _receiver, _frame: False
    assert await disputed(local, 0)
    await local.restart(1)
    await local.market.connect(local.market.nodes[1], local.market.nodes[0])

    await local.api.account_settle(SettleParams(provider))

    await until(lambda: disputed(local, 0), lambda found: not found)
    state = await until(local.market.nodes[1].state, lambda state: not state.accounts.forgiven)
    assert state.accounts.received[me].amount == START
    for api in local.apis[:2]:
        assert (await api.account_verify()).findings == ()


async def _found(frames: list[bytes]) -> bool:
    found = (read_frame(frame) for frame in frames)
    return any(isinstance(one, Envelope) and isinstance(one.message, AllocationStatus) for one in found)


async def test_entries_are_read_page_by_page_from_the_oldest(local: Local) -> None:
    provider = peer_of(local.market.nodes[1])
    for amount in range(1, 6):
        await local.api.account_deposit(DepositParams(provider, amount))
    first = await local.api.account_statement(StatementParams(limit=2, after=0))
    second = await local.api.account_statement(StatementParams(provider, 2, first.entries[-1].seq))
    last = await local.api.account_statement(StatementParams(limit=2, after=second.entries[-1].seq))
    assert [(len(page.entries), page.total) for page in (first, second, last)] == [(2, 2), (2, 2), (1, 1)]
    assert [entry.paid for page in (first, second, last) for entry in page.entries] == [1, 2, 3, 4, 5]


async def test_who_prepays_is_served_as_far_as_that_goes(local: Local) -> None:
    _, me = await priced(local), peer_of(local.market.nodes[0])
    await local.apis[1].account_limit(LimitParams(me, 0))
    assert (await local.run(spec("print", "x", queue_ms=0))).summary.reason is EndReason.NO_BIDS

    prepaid = await local.apis[1].account_deposit(DepositParams(me, START))
    assert (prepaid.credit, prepaid.owed) == (START, -START)
    assert (await local.run(spec("print", "x", queue_ms=0))).summary.reason is EndReason.COMPLETED
    assert (await answered(local, me, START)).owed == 0
    assert (await local.run(spec("print", "x", queue_ms=0))).summary.reason is EndReason.NO_BIDS


@pytest.mark.parametrize(("budget", "reason"), [(START, EndReason.WALL_TIME), (START - 1, EndReason.NO_BIDS)])
async def test_a_run_is_stopped_by_its_provider_where_the_budget_of_its_job_ends(
    local: Local, budget: int, reason: EndReason
) -> None:
    """A budget that does not reach to the wall limit buys no run; one that does is never exceeded, however long the program would go on."""
    provider, me = await priced(local), peer_of(local.market.nodes[0])
    per_ms = Price(cpu_core_hour=START // 100 * HOUR)
    await local.apis[1]._wish(PolicyWished(ProviderPolicy(tariff=per_ms)), "test")
    asked = spec("wait", budget=budget, max_price=budget, queue_ms=0, limits=Limits(wall_ms=100))
    asked = msgspec.structs.replace(asked, needs=msgspec.structs.replace(asked.needs, max_wall_ms=100))

    ended = await local.run(asked)

    assert ended.summary.reason is reason
    ours = await account_of(local, 0, provider)
    assert (ours.spent if ours is not None else 0) == ended.summary.price
    assert (ended.summary.price, budget) in {(START, START), (0, START - 1)}
    if reason is EndReason.WALL_TIME:
        assert (await answered(local, me, START)).disputed == 0


async def test_nothing_is_not_paid_and_an_iou_over_nothing_is_not_signed(local: Local) -> None:
    provider = peer_of(local.market.nodes[1])
    with pytest.raises(UserError, match="the amount is 0"):
        await local.api.account_deposit(DepositParams(provider, 0))
    with pytest.raises(UserError, match="there is nothing to settle"):
        await local.api.account_settle(SettleParams(provider))
    await local.api.account_deposit(DepositParams(provider, 5))
    await local.api.account_settle(SettleParams(provider))
    paid = await local.api.account_deposit(DepositParams(provider, -5))
    assert (paid.owed, paid.given is not None) == (0, True)
    taken_back = await local.api.account_settle(SettleParams(provider))
    assert taken_back.given is not None
    assert taken_back.given.amount == 0
