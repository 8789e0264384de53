"""alloc.*, peers.*, events.*, doctor.*: the rest of what a running node answers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec
import pytest

from dms.cli.blocks import Box, Boxes, Table
from dms.cli.views.jobs import allocation as allocation_blocks
from dms.cli.views.node import status
from dms.cli.views.peers import one_peer, peer_list
from dms.config.loading import load_config
from dms.node import invite
from dms.node.api.events import STREAMS
from dms.node.services import REACHED_BY
from dms.node.trace import lines
from dms.rpc.api import NodeApi
from dms.rpc.api.allocations import AllocationListParams, AllocationLogParams, AllocationParams, Side
from dms.rpc.api.events import Check, DoctorParams, EventQuery, Finding, TraceParams, WatchEventsParams
from dms.rpc.api.jobs import JobParams, WaitParams
from dms.rpc.api.peers import BanParams, InviteParams, JoinParams, PeerParams, PeerState, PingParams
from dms.rpc.registry import methods_of
from dms.testing.market import peer_of, until
from dms_proto.errors import PeerError, UserError
from dms_proto.ids import short
from dms_proto.market.auction_effects import LetDown
from dms_proto.messages import Phase
from dms_proto.reputation import Kind
from dms_proto.reputation.silence import FIRST_PAUSE_MS, SetAside, Word
from dms_proto.work import EndReason

from .conftest import Local, spec

EVENTS_PAGE = Path(__file__).parents[3] / "docs" / "reference" / "events.md"


def test_every_method_of_the_interface_is_answered(local: Local) -> None:
    missing = [method.name for method in methods_of(NodeApi).values() if not hasattr(local.api, method.attribute)]
    assert not missing


# ----------------------------------------------------------------------------------------------------------- allocations


async def test_a_provider_that_stops_an_allocation_is_blamed_and_another_runs_it(local: Local) -> None:
    await local.api.node_pause()
    job = await local.submit(spec("print", "x", "wait"))
    first = (await until(lambda: local.api.alloc_list(AllocationListParams()), lambda seen: seen.total)).allocations[0]
    index = [peer_of(node) for node in local.market.nodes].index(first.provider)
    await until(
        lambda: local.apis[index].alloc_list(AllocationListParams(active=True)),
        lambda seen: seen.total and seen.allocations[0].phase is Phase.RUNNING,
    )
    logged = await local.apis[index].alloc_logs(AllocationLogParams(first.allocation_id))
    assert (logged.data, logged.complete) == (b"x", False)
    result = await local.apis[index].alloc_cancel(AllocationParams(first.allocation_id))
    assert result.cancelled
    view = await until(lambda: local.show(job), lambda view: len(view.slots[0].attempts) > 1)
    ended = view.slots[0].attempts[0].ending
    assert ended is not None
    assert ended.reason is EndReason.PROVIDER_STOPPED
    assert view.slots[0].attempts[1].provider != first.provider
    peers = {peer.peer_id: peer.failures for peer in (await local.api.peers_list()).peers}
    assert peers[first.provider] == 1
    view = await local.api.peers_show(PeerParams(first.provider))
    assert (Kind.FAULT, 1) in [(part.kind, part.count) for part in view.evidence]
    await local.api.job_cancel(JobParams(job))
    await local.api.job_wait(WaitParams(job, 10_000))
    again = await local.apis[index].alloc_cancel(AllocationParams(first.allocation_id))
    assert again.already_over


async def test_a_requester_that_stops_the_only_allocation_ends_the_job(local: Local) -> None:
    await local.api.node_pause()
    job = await local.submit(spec("wait"))
    mine = (
        await until(lambda: local.api.alloc_list(AllocationListParams(side=Side.REQUESTER)), lambda seen: seen.total)
    ).allocations[0]
    result = await local.api.alloc_cancel(AllocationParams(mine.allocation_id))
    assert (result.cancelled, result.job) == (True, "its job ends with it")
    assert (await local.api.job_wait(WaitParams(job, 10_000))).summary.reason is EndReason.CANCELLED


async def test_a_requester_stops_one_of_several_and_the_others_go_on(local: Local) -> None:
    job = await local.submit(spec("wait", count=2))
    listed = await until(
        lambda: local.api.alloc_list(AllocationListParams(side=Side.REQUESTER, active=True)),
        lambda seen: seen.total == 2,
    )
    first, second = listed.allocations
    result = await local.api.alloc_cancel(AllocationParams(first.allocation_id))
    assert result.job == "its job goes on with 1 other, and ends as cancelled"
    view = await until(lambda: local.show(job), lambda view: view.summary.done == 1)
    ended = view.slots[first.slot].ending
    assert ended is not None
    assert ended.reason is EndReason.CANCELLED
    assert view.slots[second.slot].ending is None
    assert not view.summary.ended_at
    last = await local.api.alloc_cancel(AllocationParams(second.allocation_id))
    assert last.job == "its job ends with it"
    over = await local.api.job_wait(WaitParams(job, 10_000))
    assert over.summary.reason is EndReason.CANCELLED
    assert [len(slot.attempts) for slot in over.slots] == [1, 1]


async def test_what_runs_shows_what_it_has_used_so_far_on_both_sides(local: Local) -> None:
    await local.api.node_pause()
    job = await local.submit(spec("use", "1500", "wait"))
    mine = (await until(lambda: local.api.alloc_list(AllocationListParams()), lambda seen: seen.total)).allocations[0]
    provider = local.apis[[peer_of(node) for node in local.market.nodes].index(mine.provider)]
    for api in (provider, local.api):
        shown = await until(
            lambda api=api: api.alloc_show(AllocationParams(mine.allocation_id)), lambda a: a.usage.cpu_us
        )
        assert (shown.ending, shown.usage.cpu_us) == (None, 1_500_000)
        (listed,) = (await api.alloc_list(AllocationListParams(active=True))).allocations
        assert listed.usage == shown.usage
        assert "1.50 s CPU, 1.46 GiB" in str(list(allocation_blocks(shown, {})))
    await local.api.job_cancel(JobParams(job))


async def test_a_node_that_provides_for_itself_sees_one_allocation_with_both_sides(local: Local) -> None:
    for api in local.apis[1:]:
        await api.node_pause()
    await local.run(spec("print", "self"))
    listed = await local.api.alloc_list(AllocationListParams())
    assert (listed.total, listed.allocations[0].side) == (1, Side.BOTH)
    assert listed.allocations[0].provider == listed.allocations[0].requester
    for side in (Side.PROVIDER, Side.REQUESTER):
        assert (await local.api.alloc_list(AllocationListParams(side=side))).total == 1
    assert (await local.api.alloc_list(AllocationListParams(active=True))).total == 0


# ----------------------------------------------------------------------------------------------------------------- peers


async def test_peers_are_listed_pinged_banned_and_let_back(local: Local) -> None:
    other = peer_of(local.market.nodes[1])
    listed = await local.api.peers_list()
    assert [peer.state for peer in listed.peers] == [PeerState.CONNECTED] * 2
    assert listed.peers[0].summary.resources.cpu_millicores == 4000
    ping = await local.api.peers_ping(PingParams(other[-8:], count=2))
    assert (len(ping.rtt_us), ping.lost, ping.peer) == (2, 0, other)
    banned = await local.api.peers_ban(BanParams(other, 60))
    assert banned.state is PeerState.BANNED
    await until(local.market.nodes[0].state, lambda state: len(state.membership.greeted()) == 1)
    with pytest.raises(PeerError, match=f"{short(other)}.* cannot be reached: ") as unreached:
        await local.api.peers_ping(PingParams(other, count=1))
    assert "is it up" in unreached.value.hint
    back = await local.api.peers_ban(BanParams(other, 0))
    assert back.state is PeerState.KNOWN
    assert (await local.api.peers_ping(PingParams(other, count=1))).lost == 0
    with pytest.raises(UserError, match="no peer 'nobody'"):
        await local.api.peers_ping(PingParams(PeerParams("nobody").peer))


async def test_an_invitation_leads_back_to_the_market(local: Local) -> None:
    invitation = await local.api.peers_invite(InviteParams())
    assert invitation.addresses
    me, joiner = peer_of(local.market.nodes[0]), local.apis[1]
    await joiner.peers_ban(BanParams(me, 1))
    await joiner.peers_ban(BanParams(me, 0))
    await until(local.market.nodes[1].state, lambda state: state.membership.peers[me].phase != "greeted")
    joined = await joiner.peers_join(JoinParams(invitation.invite))
    assert (joined.peer.peer_id, joined.peer.state) == (me, PeerState.CONNECTED)
    with pytest.raises(UserError, match="own invitation"):
        await local.api.peers_join(JoinParams(invitation.invite))
    with pytest.raises(UserError) as damaged:
        await joiner.peers_join(JoinParams(invitation.invite[:-2]))
    assert damaged.value.code == "bad_invite"


# ---------------------------------------------------------------------------------------------------------------- events


async def test_events_are_found_by_kind_stream_cause_and_time_oldest_or_newest_first(local: Local) -> None:
    job = (await local.run(spec("print", "x"))).summary.job_id
    every = await local.api.events_query(EventQuery(stream=job[:7], limit=1000))
    assert every.events[0].kind == "RequestOpened"
    assert every.events[0].body["terms"]["task"]["command"] == ["print", "x"]
    assert every.events[0].cause_id.startswith("job.submit:")
    assert [event.version for event in every.events] == list(range(1, len(every.events) + 1))
    by_cause = await local.api.events_query(EventQuery(cause_id=every.events[0].cause_id))
    assert every.events[0] in by_cause.events
    newest = await local.api.events_query(EventQuery(stream=job, newest=True, limit=2))
    assert newest.events == every.events[-2:]
    assert (await local.api.events_query(EventQuery(kinds=("BidReceived",)))).events == tuple(
        event for event in every.events if event.kind == "BidReceived"
    )
    later = await local.api.events_query(EventQuery(stream=job, after_seq=every.events[2].id))
    assert later.events == every.events[3:]


async def test_every_stream_can_be_asked_for_and_what_is_none_is_refused_with_all_there_are(local: Local) -> None:
    documented = re.findall(r"^stream `(\w+)`", EVENTS_PAGE.read_text(), re.MULTILINE)
    assert set(documented) == set(STREAMS)
    for stream in STREAMS:
        found = await local.api.events_query(EventQuery(stream=stream))
        assert all(event.stream == stream for event in found.events)
    with pytest.raises(UserError, match="no events are about 'markt'") as refused:
        await local.api.events_query(EventQuery(stream="markt"))
    assert refused.value.code == "not_found"
    assert refused.value.hint == f"an id, or one of: {', '.join(STREAMS)}"


async def test_events_can_be_followed_from_anywhere(local: Local) -> None:
    job = await local.submit(spec("print", "x"))
    seen = []
    async for event in local.api.watch_events(WatchEventsParams(stream=job)):
        seen.append(event)
        if event.kind == "RequestEnded":
            break
    assert seen[0].kind == "RequestOpened"
    resumed = []
    async for event in local.api.watch_events(WatchEventsParams(since=seen[2].id, stream=job)):
        resumed.append(event)
        if event.kind == "RequestEnded":
            break
    assert resumed == seen[3:]


async def test_the_store_is_verified_and_so_are_the_read_models(local: Local) -> None:
    await local.run(spec("print", "x"))
    report = await local.api.events_verify()
    assert report.intact, report
    assert 0 < report.events <= local.market.nodes[0].services.store.head().seq
    store = local.market.nodes[0].services.store
    await store.transact(lambda connection: connection.execute("UPDATE p_jobs SET price = 7"))
    tampered = await local.api.events_verify()
    assert not tampered.intact
    assert "work" in tampered.detail
    assert (await local.api.events_verify()).intact  # they were made anew


async def test_a_trace_tells_both_halves_of_a_job(local: Local) -> None:
    await local.api.node_pause()
    view = await local.run(spec("print", "x"))
    job, attempt = view.summary.job_id, view.slots[0].attempts[0]
    mine = await local.api.events_trace(TraceParams(job))
    assert {step.stream for step in mine.steps} == {job, "market"}  # asked, and declined by itself: it was paused
    index = [peer_of(node) for node in local.market.nodes].index(attempt.provider)

    async def theirs() -> list[str]:
        told = await local.apis[index].events_trace(TraceParams(attempt.allocation_id))
        assert told.job_id == job
        return [step.kind for step in told.steps]

    kinds = await until(theirs, lambda kinds: "ReceiptReceived" in kinds)
    wanted = ["BidMade", "BidCommitted", "AllocationOpened", "AllocationStarted", "AllocationEnded", "CapacityFreed"]
    assert [kind for kind in kinds if kind in wanted] == wanted
    text = lines(mine.steps)
    assert len(text) == len(mine.steps)
    assert "+0.000 s" in text[0]
    with pytest.raises(UserError, match=r"left a trace.*dms bids --requests"):
        await local.api.events_trace(TraceParams("r-unknown"))


async def test_doctor_looks_at_the_running_node(local: Local) -> None:
    report = await local.api.doctor_run(DoctorParams())
    by_name = {check.name: check for check in report.checks}
    assert by_name["identity"].finding is Finding.PASS
    assert by_name["store"].finding is Finding.PASS
    assert by_name["scripted"].evidence.startswith("1, isolation namespaces")
    assert by_name["peers"].evidence.startswith("2 take part")
    assert by_name["clock"].finding is Finding.PASS
    assert by_name["reach"].finding is Finding.SKIP  # an in-memory network has no internet addresses
    only = await local.api.doctor_run(DoctorParams(only=("disk", "identity")))
    assert [check.name for check in only.checks] == ["identity", "disk"]
    with pytest.raises(UserError, match="no check 'brain'"):
        await local.api.doctor_run(DoctorParams(only=("brain",)))


async def test_a_node_remembers_that_somebody_connected_to_it(local: Local) -> None:
    nodes = local.market.nodes
    dialled = {peer for node in nodes for peer, link in node.services.network.links().items() if not link.inbound}
    assert {peer_of(node) for node in nodes if node.services.notes.get(REACHED_BY)} == dialled != set()


async def test_many_watchers_and_jobs_at_once_all_see_their_end(local: Local) -> None:
    jobs = [await local.submit(spec("print", f"{number}")) for number in range(8)]
    ended = await asyncio.gather(*(local.api.job_wait(WaitParams(job, 30_000)) for job in jobs))
    assert {view.summary.reason for view in ended} == {EndReason.COMPLETED}


async def test_a_node_that_its_owner_has_put_into_no_market_can_be_moved_by_an_invitation(local: Local) -> None:
    services = local.market.nodes[1].services
    ours = services.config.network.topic
    to_lab = JoinParams(invite.make("lab", ["/ip4/192.0.2.1/tcp/4600"], peer_of(local.market.nodes[0])))
    joiner = local.apis[1]
    with pytest.raises(UserError, match=f"to the market 'lab'; this node is in '{ours}'") as refused:
        await joiner.peers_join(to_lab)
    assert refused.value.code == "other_market"

    moved = await joiner.peers_move(to_lab)
    assert (moved.market, moved.before) == ("lab", ours)
    assert load_config(services.home, {}).network.topic == "lab"

    with pytest.raises(UserError, match="by the word of its owner"):
        await joiner.peers_move(to_lab)
    with pytest.raises(UserError, match="already"):
        await joiner.peers_move(
            JoinParams(invite.make(ours, ["/ip4/192.0.2.1/tcp/4600"], peer_of(local.market.nodes[0])))
        )


async def test_a_node_with_work_stays_in_its_market(local: Local) -> None:
    await local.submit(spec("print", "x", "wait"))
    to_lab = JoinParams(invite.make("lab", ["/ip4/192.0.2.1/tcp/4600"], peer_of(local.market.nodes[1])))
    with pytest.raises(UserError, match=r"has 1 job and \d allocations? that"):
        await local.api.peers_move(to_lab)
    assert not local.market.nodes[0].services.home.config.exists()


async def test_what_could_not_be_handled_is_counted_in_the_status_and_the_doctor_says_what_it_was(local: Local) -> None:
    node = local.market.nodes[0].services
    before = await local.api.node_status()
    assert (before.mishaps, [check.finding for check in (await doctor(local, "mishaps"))]) == (0, [Finding.PASS])

    node.node.tell("what nobody understands")
    seen = await until(local.api.node_status, lambda seen: seen.mishaps)

    assert (seen.mishaps, seen.healthy) == (1, before.healthy)
    boxes = next(block for block in status(seen) if isinstance(block, Boxes)).boxes
    assert dict(boxes[0].rows)["mishaps"] == "1 message left out; dms doctor"
    (check,) = await doctor(local, "mishaps")
    assert check.finding is Finding.WARN
    assert "str at node: TypeError: the node does not understand" in check.evidence
    node.mishaps.count, node.mishaps.last = 0, None


async def doctor(local: Local, name: str) -> tuple[Check, ...]:
    return (await local.api.doctor_run(DoctorParams((name,)))).checks


async def test_whose_bids_are_taken_last_is_shown_with_the_reason_and_the_doctor_says_when_it_is_most(
    local: Local,
) -> None:
    """It was known to the node alone: its owner saw jobs go elsewhere and no reason for it."""
    node, now = local.market.nodes[0], local.market.nodes[0].services.clock()
    silent, *others = (peer.peer_id for peer in (await local.api.peers_list()).peers)
    node.services.node.tell(LetDown(silent, Word.ANSWER, ("its bid",), now - 500, now))
    view = await until(lambda: local.api.peers_show(PeerParams(silent)), lambda view: view.aside is not None)
    assert view.aside == SetAside(now + FIRST_PAUSE_MS, Word.ANSWER, 1)
    (box,) = (block for block in one_peer(view) if isinstance(block, Box))
    assert dict(box.rows)["bids"].startswith("taken last: 1 commit unanswered, until 20")
    (box,) = (block for block in one_peer(msgspec.structs.replace(view, unanswered=4)) if isinstance(block, Box))
    assert dict(box.rows)["answers"] == "not waited for: 4 rounds unanswered"
    checks = await doctor(local, "peers")
    assert [check.finding for check in checks] == [Finding.PASS]

    for other in others:
        node.services.node.tell(LetDown(other, Word.ANSWER, ("its bid",), now - 500, now))
    seen = await until(local.api.peers_list, lambda seen: all(peer.aside for peer in seen.peers))
    (table,) = (block for block in peer_list(seen) if isinstance(block, Table))
    assert all("taken last: 1 commit unanswered" in row[-1] for row in table.rows)
    checks = await doctor(local, "peers")
    assert [check.finding for check in checks] == [Finding.PASS, Finding.WARN]
    assert "that take work are taken last" in checks[1].evidence
