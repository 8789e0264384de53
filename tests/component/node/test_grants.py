"""Nodes that ask for a grant: who is served, who is told what is missing, and what a revocation ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dms.config import Config
from dms.executors.scripted import ScriptedExecutor
from dms.node.api import LocalApi
from dms.node.app import unix_ms
from dms.node.rotation import rotate_key
from dms.rpc.api.accounts import LimitParams
from dms.rpc.api.grants import (
    AnchorParams,
    CreateGrantParams,
    DelegateGrantParams,
    Grant,
    GrantList,
    GrantParams,
    GrantView,
    RevokeGrantParams,
)
from dms.rpc.api.jobs import JobLogParams, JobParams, JobView, WaitParams
from dms.rpc.api.market import AskParams
from dms.rpc.api.peers import InviteParams, JoinParams
from dms.testing.market import CAPABILITY, CONFIG, TARIFF, Market, peer_of, until
from dms.trust.grant import FORM, issue, read_grant
from dms_actors.letters import WantGrant
from dms_actors.testing.network import MemoryNetwork
from dms_proto.errors import UserError
from dms_proto.grants.access import Access
from dms_proto.grants.rights import TIME, Rights
from dms_proto.ids import PeerId, short
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.messages import Clause
from dms_proto.units import HOUR, MINUTE, SECOND
from dms_proto.wire import CLOCK_SKEW_MS
from dms_proto.work import EndReason

from .conftest import Local, spec

GUARDED = ProviderPolicy(tariff=TARIFF, access=Access.AUTHORISED)
ASKS_ONLY: Config = msgspec.structs.replace(CONFIG, provider=msgspec.structs.replace(CONFIG.provider, enabled=False))


class Clock:
    """Unix ms, `ahead` of the machine's clock."""

    ahead = 0

    def __call__(self) -> int:
        return unix_ms() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def released() -> asyncio.Event:
    """When it is set, jobs that sleep wake."""
    return asyncio.Event()


@pytest.fixture
async def guarded(tmp_path: Path, clock: Clock, released: asyncio.Event) -> AsyncIterator[Local]:
    """Node 0 asks, node 1 and node 2 work for those who show a grant of their own. They share a clock."""

    async def sleep(_seconds: float) -> None:
        await released.wait()

    def build(index: int) -> dict[str, Any]:
        if not index:
            return {"clock": clock, "config": ASKS_ONLY}
        executors = {"scripted": (ScriptedExecutor(sleep), CAPABILITY.executors[0])}
        return {"clock": clock, "policy": GUARDED, "executors": executors}

    async with Market(tmp_path, 3, build=build) as market:
        local = Local(market)
        try:
            for node in market.nodes:
                local.apis.append(await LocalApi.start(node.services))
            yield local
        finally:
            for api in local.apis:
                await api.close()


async def clauses(local: Local) -> dict[str, tuple[Clause, ...]]:
    """Why each node would not do a small job, by node."""
    answer = await local.api.market_ask(AskParams(spec()))
    return {verdict.peer: verdict.clauses for verdict in answer.verdicts}


async def give(local: Local, rights: Rights, *, to: int = 0, by: int = 1) -> str:
    """Has one node grant and another keep the grant; the grant's id."""
    made = await local.apis[by].grants_create(CreateGrantParams(rights))
    view = await local.apis[to].grants_keep(GrantParams(made.text))
    return view.grant_id


def is_done(view: JobView) -> bool:
    return view.summary.reason is EndReason.COMPLETED


async def test_who_shows_no_grant_is_declined_and_told_where_one_could_come_from(guarded: Local) -> None:
    one, other = (peer_of(node) for node in guarded.market.nodes[1:])
    view = await guarded.run(spec("print", "done"))
    assert view.summary.reason is EndReason.IMPOSSIBLE
    for peer in (one, other):
        (clause,) = (await clauses(guarded))[peer]
        assert clause == Clause("grant", "the right to request", "no grant was shown", f"a grant from {peer}")


async def test_who_shows_a_grant_is_served_where_its_issuer_is_believed_and_nowhere_else(guarded: Local) -> None:
    await give(guarded, Rights())
    view = await guarded.run(spec("print", "done"))
    assert is_done(view)
    assert view.slots[0].attempts[0].provider == peer_of(guarded.market.nodes[1])
    assert [c.observed for c in (await clauses(guarded))[peer_of(guarded.market.nodes[2])]] == ["no grant was shown"]

    await guarded.apis[2].grants_anchor(AnchorParams(peer_of(guarded.market.nodes[1])))
    await until(lambda: clauses(guarded), lambda found: not any(found.values()))


async def test_each_limit_of_a_grant_is_named_when_it_is_what_is_missing(guarded: Local) -> None:
    provider = peer_of(guarded.market.nodes[1])
    grant_id = await give(guarded, Rights({"cpu": 500}))
    (clause,) = (await clauses(guarded))[provider]
    assert (clause.wanted, clause.observed) == ("cores 1", "granted: cores 0.5")
    assert clause.nearest == f"a grant with more cores from {provider}"

    await guarded.api.grants_forget(GrantParams(grant_id))
    await give(guarded, Rights(one_of={"kind": ("commit", "invoke")}))
    (clause,) = (await clauses(guarded))[provider]
    assert clause.wanted == "rights request"


async def test_who_may_ask_and_not_commit_is_told_what_a_job_would_cost_and_gets_no_bid(guarded: Local) -> None:
    provider = peer_of(guarded.market.nodes[1])
    await give(guarded, Rights(one_of={"kind": ("request",)}))
    assert not (await clauses(guarded))[provider]
    job = (await guarded.run(spec())).summary
    assert job.reason is EndReason.IMPOSSIBLE
    verdicts = (await guarded.api.job_explain(JobParams(job.job_id))).verdicts
    (told,) = (verdict for verdict in verdicts if verdict.peer == provider)
    assert [clause.wanted for clause in told.clauses] == ["rights commit, invoke"]


async def test_a_revoked_grant_and_those_made_from_it_are_refused_wherever_the_issuer_is_an_anchor(
    guarded: Local,
) -> None:
    issuer = peer_of(guarded.market.nodes[1])
    await guarded.apis[2].grants_anchor(AnchorParams(issuer))
    made = await guarded.apis[1].grants_create(CreateGrantParams(Rights()))
    narrower = await guarded.api.grants_delegate(DelegateGrantParams(made.text, Rights({"cpu": 2000})))
    await guarded.api.grants_keep(GrantParams(narrower.text))
    await until(lambda: clauses(guarded), lambda found: not any(found.values()))

    await guarded.apis[1].grants_revoke(RevokeGrantParams(made.view.grant_id))
    found = await until(lambda: clauses(guarded), lambda found: all(found.values()))
    revoked = short(made.view.grant_id)
    assert {clause.observed for (clause,) in found.values()} == {f"the grant {revoked} is revoked"}

    (held,) = (await guarded.api.grants_list()).held
    assert held.revoked, "its holder has heard of it as well"

    await guarded.restart(2)
    await guarded.market.connect(guarded.market.nodes[2], guarded.market.nodes[0])
    await until(lambda: clauses(guarded), lambda found: found.get(peer_of(guarded.market.nodes[2])))


def spares(local: Local) -> bool:
    """Whether node 1 asks the requester for no proof of work."""
    network = local.market.nodes[1].services.network
    assert isinstance(network, MemoryNetwork)
    return peer_of(local.market.nodes[0]) in network.spared


async def test_whom_a_grant_names_shows_no_proof_of_work_until_it_is_revoked_also_after_a_restart(
    guarded: Local,
) -> None:
    assert not spares(guarded)
    named = Rights(one_of={"peer": (peer_of(guarded.market.nodes[0]),)})
    made = await guarded.apis[1].grants_create(CreateGrantParams(named))
    await until(lambda: spares(guarded), bool)
    await guarded.restart(1)
    await until(lambda: spares(guarded), bool)
    await guarded.apis[1].grants_revoke(RevokeGrantParams(made.view.grant_id))
    await until(lambda: spares(guarded), lambda spared: not spared)


async def test_who_has_shown_a_grant_shows_no_proof_of_work_until_it_counts_no_longer(guarded: Local) -> None:
    grant_id = await give(guarded, Rights())
    assert not spares(guarded)
    await guarded.run(spec("print", "done"))
    assert spares(guarded)
    await guarded.apis[1].grants_revoke(RevokeGrantParams(grant_id))
    await until(lambda: spares(guarded), lambda spared: not spared)


async def test_anchors_and_peers_with_a_limit_of_their_own_show_no_proof_of_work(guarded: Local) -> None:
    asker = peer_of(guarded.market.nodes[0])
    await guarded.apis[1].grants_anchor(AnchorParams(asker))
    await until(lambda: spares(guarded), bool)
    await guarded.apis[1].account_limit(LimitParams(asker, 5))
    await guarded.apis[1].grants_anchor(AnchorParams(asker, wanted=False))
    assert asker not in (await guarded.apis[1].grants_anchors()).anchors
    assert spares(guarded)
    await guarded.apis[1].account_limit(LimitParams(asker, None))
    await until(lambda: spares(guarded), lambda spared: not spared)


async def passed_on(local: Local) -> Grant:
    """A grant that node 1 issued and the requester keeps, of which it made a narrower one for whoever has it."""
    issued = await local.apis[1].grants_create(CreateGrantParams(Rights()))
    return await local.api.grants_delegate(DelegateGrantParams(issued.text, Rights({"cpu": 2000})))


async def told(local: Local, index: int) -> GrantList:
    return await local.apis[index].grants_list()


async def test_who_passed_a_grant_on_can_revoke_it_by_its_id(guarded: Local) -> None:
    """Node 1 has issued it, node 0 passes it on to node 2, and takes it back."""
    made = await passed_on(guarded)
    await guarded.apis[2].grants_keep(GrantParams(made.text))
    issuer = peer_of(guarded.market.nodes[1])
    (listed,) = (await guarded.api.grants_list()).issued
    assert (listed.grant_id, listed.of, listed.revoked) == (made.view.grant_id, issuer, False)
    assert made.view.parts[-1].delegator == peer_of(guarded.market.nodes[0])

    await guarded.api.grants_revoke(RevokeGrantParams(made.view.grant_id[:8]))

    await until(lambda: told(guarded, 1), lambda found: made.view.grant_id in found.revoked)
    (held,) = (await guarded.apis[2].grants_list()).held
    assert (await guarded.apis[1].grants_inspect(GrantParams(made.text))).flaw.endswith("is revoked")
    assert held.grant_id == made.view.grant_id


async def test_a_delegator_s_word_survives_restarts_and_reaches_who_was_away(guarded: Local) -> None:
    """Node 2 accepts node 1's grants, and is away when node 0 takes back what it passed on. It hears of it from node 1, node 0 being gone."""
    await guarded.apis[2].grants_anchor(AnchorParams(peer_of(guarded.market.nodes[1])))
    made = await passed_on(guarded)
    assert not (await told(guarded, 2)).revoked
    await guarded.apis[2].close()
    await guarded.market.nodes[2].stop()

    await guarded.api.grants_revoke(RevokeGrantParams(made.text))
    await until(lambda: told(guarded, 1), lambda found: made.view.grant_id in found.revoked)
    await guarded.apis[0].close()
    await guarded.market.nodes[0].stop()
    await guarded.restart(1)
    guarded.apis[2] = await LocalApi.start((await guarded.market.start(2)).services)
    await guarded.market.connect(guarded.market.nodes[2], guarded.market.nodes[1])

    await until(lambda: told(guarded, 2), lambda found: made.view.grant_id in found.revoked)
    await guarded.restart(2)
    assert (await guarded.apis[2].grants_inspect(GrantParams(made.text))).flaw.endswith("is revoked")


async def rotated(local: Local, index: int) -> None:
    """Replaces a node's key; it is connected to nobody."""
    home = local.market.nodes[index].services.home
    await local.apis[index].close()
    await local.market.nodes[index].stop()
    await rotate_key(home)
    local.apis[index] = await LocalApi.start((await local.market.start(index)).services)


@pytest.mark.parametrize("by_id", [True, False])
async def test_a_delegator_whose_key_was_replaced_revokes_and_who_never_met_it_hears_of_it(
    guarded: Local, by_id: bool
) -> None:
    """Node 2 is the holder, and hears of it from node 1, which has issued what was passed on."""
    made = await passed_on(guarded)
    await guarded.apis[2].grants_keep(GrantParams(made.text))
    old = peer_of(guarded.market.nodes[0])
    await guarded.apis[2].close()
    await guarded.market.nodes[2].stop()
    await rotated(guarded, 0)
    await guarded.market.connect(guarded.market.nodes[0], guarded.market.nodes[1])
    assert made.view.parts[-1].delegator == old != peer_of(guarded.market.nodes[0])

    await guarded.api.grants_revoke(RevokeGrantParams(made.view.grant_id[:8] if by_id else made.text))

    await until(lambda: told(guarded, 1), lambda found: made.view.grant_id in found.revoked)
    await guarded.apis[0].close()
    await guarded.market.nodes[0].stop()
    guarded.apis[2] = await LocalApi.start((await guarded.market.start(2)).services)
    await guarded.market.connect(guarded.market.nodes[2], guarded.market.nodes[1])
    await until(lambda: held(guarded, 2), lambda view: view.revoked)
    await guarded.restart(1)
    assert (await guarded.apis[1].grants_inspect(GrantParams(made.text))).flaw.endswith("is revoked")


async def test_who_passed_a_grant_on_revokes_no_other(guarded: Local) -> None:
    """The issuer's own grant, and what another made of it, go on: the word of node 0 about them counts at node 0 alone."""
    issued = await guarded.apis[1].grants_create(CreateGrantParams(Rights()))
    other = await guarded.apis[2].grants_delegate(DelegateGrantParams(issued.text, Rights({"cpu": 1000})))
    made = await guarded.api.grants_delegate(DelegateGrantParams(issued.text, Rights({"cpu": 2000})))
    for text in (issued.text, other.text, made.text):
        await guarded.api.grants_revoke(RevokeGrantParams(text))

    await until(lambda: told(guarded, 1), lambda found: made.view.grant_id in found.revoked)

    assert (await told(guarded, 1)).revoked == (made.view.grant_id,)


async def test_a_grant_that_ends_while_a_job_runs_ends_no_job(guarded: Local, clock: Clock) -> None:
    """Nothing new is served; statuses, the cancel and the receipt of what was begun pass."""
    await give(guarded, Rights({TIME: clock() + HOUR}))
    job = await guarded.submit(spec("sleep_ms", "50000"))
    await until(lambda: guarded.show(job), lambda view: view.summary.running == 1)

    clock.ahead = HOUR + 2 * CLOCK_SKEW_MS
    (clause,) = (await clauses(guarded))[peer_of(guarded.market.nodes[1])]
    assert clause.observed.startswith("the grant ended")
    assert (await guarded.show(job)).summary.running == 1

    await guarded.api.job_cancel(JobParams(job))
    view = await until(lambda: guarded.show(job), lambda view: bool(view.summary.ended_at))
    assert view.summary.reason is EndReason.CANCELLED
    await guarded.market.drained()


async def test_a_job_whose_grant_ends_under_way_is_done_and_a_renewed_grant_serves_the_next(
    guarded: Local, clock: Clock, released: asyncio.Event
) -> None:
    """What it writes after that comes, so do its outputs and the receipt; only something new needs a grant that has not ended."""
    provider = guarded.market.nodes[1]
    await give(guarded, Rights({TIME: clock() + HOUR}))
    job = await guarded.submit(
        spec("print", "before", "sleep_ms", "1", "print", "after", "write", "out", "42", outputs=("out",))
    )
    await until(lambda: guarded.show(job), lambda view: view.summary.running == 1)

    clock.ahead = HOUR + 2 * CLOCK_SKEW_MS
    (clause,) = (await clauses(guarded))[peer_of(provider)]
    assert clause.observed.startswith("the grant ended")
    released.set()
    view = await until(lambda: guarded.show(job), lambda view: bool(view.summary.ended_at))
    assert view.summary.reason is EndReason.COMPLETED
    assert (await guarded.api.job_logs(JobLogParams(job))).data == b"beforeafter"
    await until(provider.state, lambda state: not state.allocations)  # its receipt came
    assert (await guarded.run(spec("print", "more"))).summary.reason is EndReason.IMPOSSIBLE

    await give(guarded, Rights({TIME: clock() + HOUR}))
    assert is_done(await guarded.run(spec("print", "more")))


# --------------------------------------------------------------------------------------------------------------- renewals

DAY = 24 * HOUR
SPAN = 10 * MINUTE
STEP = 20 * SECOND
"""A clock that jumps further makes messages on their way expire."""


async def later(local: Local, clock: Clock, span: int = SPAN * 2 // 3 + STEP) -> None:
    """Time passes; without `span` so much that a grant for `SPAN` is in its last third."""
    for _ in range(span // STEP):
        clock.ahead += STEP
        for node in local.market.nodes:
            await node.state()
        await until(lambda: unanswered(local), lambda peers: not peers)


async def unanswered(local: Local) -> list[PeerId]:
    """Whose answer to a probe is on its way: they count as silent if the clock goes on before."""
    states = [await node.state() for node in local.market.nodes]
    return [peer.peer for state in states for peer in state.membership.greeted() if peer.unanswered]


async def give_renewable(local: Local, clock: Clock, *, to: int = 0, by: int = 1) -> GrantView:
    """A grant for `SPAN` that is renewed for a day, kept by another node."""
    rights = Rights({TIME: clock() + SPAN}, {"peer": (peer_of(local.market.nodes[to]),)})
    made = await local.apis[by].grants_create(CreateGrantParams(rights, clock() + DAY))
    return await local.apis[to].grants_keep(GrantParams(made.text))


def ask(local: Local, index: int = 0) -> None:
    """What the node does each minute."""
    services = local.market.nodes[index].services
    services.renewals.ask(services.node)


async def held(local: Local, index: int = 0) -> GrantView:
    (view,) = (await local.apis[index].grants_list()).held
    return view


async def test_a_grant_is_renewed_again_and_again_while_what_was_agreed_under_it_runs(
    guarded: Local, clock: Clock, released: asyncio.Event
) -> None:
    """Nothing is shown any more once the job runs; it is the job that keeps the grant in use. Its end comes when it was promised."""
    provider = peer_of(guarded.market.nodes[1])
    before = await give_renewable(guarded, clock)
    job = await guarded.submit(spec("sleep_ms", "1"))
    await until(lambda: guarded.show(job), lambda view: view.summary.running == 1)
    for _ in range(3):
        end = (await held(guarded)).rights.until
        await later(guarded, clock)
        ask(guarded)
        view = await until(lambda: held(guarded), lambda view, end=end: view.rights.until > end)
        assert view.parts[-1].renews == before.grant_id
        assert end + SPAN // 2 < view.rights.until <= clock() + SPAN
    (issued,) = (await guarded.apis[1].grants_list()).issued
    assert (issued.grant_id, issued.renewed_until) == (before.grant_id, view.rights.until)
    await guarded.restart(0)
    await guarded.market.connect(guarded.market.nodes[0], guarded.market.nodes[1])
    assert await held(guarded) == view
    await until(lambda: clauses(guarded), lambda found: found.get(provider) == ())
    released.set()
    assert is_done(await guarded.api.job_wait(WaitParams(job, 20_000)))


async def test_a_grant_that_nobody_uses_runs_out(guarded: Local, clock: Clock) -> None:
    before = await give_renewable(guarded, clock)
    await later(guarded, clock)
    ask(guarded)
    assert not (await clauses(guarded))[peer_of(guarded.market.nodes[1])]  # shown, it is in use
    assert (await held(guarded)).parts == before.parts

    ask(guarded)

    await until(lambda: held(guarded), lambda view: view.parts != before.parts)


async def test_a_revoked_grant_is_not_renewed_and_revoking_the_first_ends_its_renewals(
    guarded: Local, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    provider = peer_of(guarded.market.nodes[1])
    before = await give_renewable(guarded, clock)
    assert not (await clauses(guarded))[provider]
    await later(guarded, clock)
    ask(guarded)
    after = await until(lambda: held(guarded), lambda view: view.parts != before.parts)
    assert not (await clauses(guarded))[provider]

    await guarded.apis[1].grants_revoke(
        RevokeGrantParams(FORM.write(guarded.market.nodes[0].services.wallet.held[after.grant_id].grant))
    )

    (clause,) = (await clauses(guarded))[provider]
    assert clause.observed == f"the grant {short(before.grant_id)} is revoked"
    assert (await held(guarded)).revoked
    await later(guarded, clock)
    holder = guarded.market.nodes[0].services
    holder.node.tell(WantGrant(provider, holder.wallet.held[after.grant_id].grant))  # as who has not heard of it asks
    await until(lambda: [said for said in caplog.messages if "no renewal of" in said and "is revoked" in said], bool)


async def test_a_renewal_is_verified_only_if_it_was_asked_for(guarded: Local, clock: Clock) -> None:
    before = await give_renewable(guarded, clock)
    holder, issuer = guarded.market.nodes[:2]
    rights = Rights({**before.rights.at_most, TIME: clock() + HOUR}, before.rights.one_of)
    new = issue(issuer.services.identity.seed(), rights, before.renewal, before.grant_id)
    verified = read_grant.cache_info().misses

    holder.services.renewals.keep(peer_of(issuer), new)
    await asyncio.sleep(0)

    assert (await held(guarded)).rights == before.rights
    assert read_grant.cache_info().misses == verified


async def test_a_grant_of_another_issuer_is_refused_unread(
    guarded: Local, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    asker, asked = guarded.market.nodes[:2]
    grant = issue(asker.services.identity.seed(), Rights({TIME: clock() + HOUR}))
    verified = read_grant.cache_info().misses

    asker.services.node.tell(WantGrant(peer_of(asked), grant))

    await until(lambda: any("was not made here" in said for said in caplog.messages), bool)
    assert read_grant.cache_info().misses == verified


async def test_a_promise_that_cannot_be_kept_is_not_made(guarded: Local, clock: Clock) -> None:
    for rights, renew_until in ((Rights(), clock() + DAY), (Rights({TIME: clock() + HOUR}), clock() + HOUR)):
        with pytest.raises(UserError, match="renew"):
            await guarded.api.grants_create(CreateGrantParams(rights, renew_until))


async def test_an_invitation_s_grant_is_renewed_for_whoever_joined_with_it(guarded: Local, clock: Clock) -> None:
    invitation = await guarded.apis[1].peers_invite(InviteParams(clock() + SPAN, clock() + DAY))
    await guarded.api.peers_join(JoinParams(invitation.invite))
    assert is_done(await guarded.run(spec("print", "done")))
    await later(guarded, clock)
    ask(guarded)
    await until(lambda: held(guarded), lambda view: bool(view.parts[-1].renews))
    await later(guarded, clock)  # what came with the invitation has ended
    assert is_done(await guarded.run(spec("print", "more")))


async def test_an_invitation_to_a_guarded_node_is_all_it_takes(guarded: Local) -> None:
    invitation = await guarded.apis[1].peers_invite(InviteParams())
    joined = await guarded.api.peers_join(JoinParams(invitation.invite))
    assert joined.grant_id == invitation.grant_id
    assert is_done(await guarded.run(spec("print", "done")))
    wallet = guarded.market.nodes[0].services.home.grants
    assert wallet.stat().st_mode & 0o777 == 0o600


async def test_an_invitation_to_a_public_node_holds_no_secret(local: Local) -> None:
    invitation = await local.apis[1].peers_invite(InviteParams())
    assert invitation.grant_id == ""
    assert not (await local.apis[1].grants_list()).issued
    with pytest.raises(UserError, match="asks for no grant"):
        await local.apis[1].peers_invite(InviteParams(renew_until=10**13))


async def test_a_grant_for_another_node_is_not_kept(guarded: Local) -> None:
    other = peer_of(guarded.market.nodes[2])
    made = await guarded.apis[1].grants_create(CreateGrantParams(Rights(one_of={"peer": (other,)})))
    with pytest.raises(UserError, match="for another node"):
        await guarded.api.grants_keep(GrantParams(made.text))


async def test_what_is_no_grant_is_not_revoked(guarded: Local) -> None:
    """It was believed by its length alone, and then no hello could be sent that named it: the node met nobody any more."""
    with pytest.raises(UserError) as caught:
        await guarded.api.grants_revoke(RevokeGrantParams("r-" + "a" * 26))
    assert caught.value.code == "not_found"
    assert not (await guarded.api.grants_list()).revoked


async def test_a_paused_node_is_no_missing_grant(guarded: Local) -> None:
    """It is not asked by name, since it says that it takes no work; what reaches it by gossip shows the grant."""
    await guarded.apis[2].grants_anchor(AnchorParams(peer_of(guarded.market.nodes[1])))
    await give(guarded, Rights())
    for api in guarded.apis[1:]:
        await api.node_pause()
    await until(guarded.api.peers_list, lambda found: not any(peer.accepts_work for peer in found.peers))

    job = await guarded.submit(spec())
    explained = await until(
        lambda: guarded.api.job_explain(JobParams(job)), lambda found: all(v.clauses for v in found.verdicts)
    )
    assert {clause.dimension for verdict in explained.verdicts for clause in verdict.clauses} == {"accepts_work"}


async def test_a_grant_that_would_be_over_already_is_not_made(guarded: Local) -> None:
    over = Rights({TIME: unix_ms() - HOUR})
    with pytest.raises(UserError, match="would have ended 1 h ago"):
        await guarded.api.grants_create(CreateGrantParams(over))
    made = await guarded.api.grants_create(CreateGrantParams(Rights()))
    with pytest.raises(UserError, match="would have ended"):
        await guarded.api.grants_delegate(DelegateGrantParams(made.text, over))


async def test_a_grant_may_name_its_holder_as_lists_show_it(guarded: Local) -> None:
    holder = peer_of(guarded.market.nodes[1])
    made = await guarded.api.grants_create(CreateGrantParams(Rights(one_of={"peer": (short(holder),)})))
    assert made.view.rights.one_of["peer"] == (holder,)
    with pytest.raises(UserError, match="no peer 'nobody' here"):
        await guarded.api.grants_create(CreateGrantParams(Rights(one_of={"peer": ("nobody",)})))


async def test_a_grant_that_was_forgotten_is_not_said_to_be_kept(guarded: Local) -> None:
    made = await guarded.apis[1].grants_create(CreateGrantParams(Rights()))
    assert (await guarded.api.grants_keep(GrantParams(made.text))).held
    assert not (await guarded.api.grants_forget(GrantParams(made.text))).held


async def test_a_node_asks_by_itself(guarded: Local, clock: Clock) -> None:
    before = await give_renewable(guarded, clock)
    assert not (await clauses(guarded))[peer_of(guarded.market.nodes[1])]
    await later(guarded, clock)
    services = guarded.market.nodes[0].services
    asking = asyncio.create_task(services.renewals.ask_on_time(services.node, every_s=0.01))
    try:
        await until(lambda: held(guarded), lambda view: view.parts != before.parts)
    finally:
        asking.cancel()
