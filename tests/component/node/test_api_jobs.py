"""job.*: submitting, watching, reading, explaining and stopping jobs of a real node."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dms.node.story import JobStory
from dms.rpc.api.events import TraceParams
from dms.rpc.api.jobs import (
    DecisionParams,
    JobEnded,
    JobListParams,
    JobLog,
    JobLogParams,
    JobParams,
    JobPhase,
    SlotProgress,
    SubmitParams,
    WaitParams,
    WatchJobParams,
)
from dms.rpc.api.market import AskParams
from dms.testing.market import peer_of, until
from dms_actors.events import from_row
from dms_actors.letters import Submit
from dms_actors.runtime import ask_from_loop
from dms_proto.capability import Resources
from dms_proto.errors import MachineError, UserError
from dms_proto.ids import digest_of
from dms_proto.market.auction_fold import evolve
from dms_proto.market.auction_state import Auction
from dms_proto.market.explain import Outcome
from dms_proto.market.preferences import Preferences
from dms_proto.messages import Phase
from dms_proto.secrets import OpenSecret, Secret
from dms_proto.units import GIB, MIB
from dms_proto.work import EndReason, Input, Task

from .conftest import NEEDS, Local, spec

EMPTY = digest_of(b"")


async def test_a_job_that_does_not_say_how_many_bids_it_wants_has_the_setting_s(local: Local) -> None:
    setting = local.market.nodes[0].services.config.market.bids_wanted
    silent, saying = (
        await local.run(spec("print", "x", bids_wanted=0)),
        await local.run(spec("print", "x", bids_wanted=setting + 1)),
    )
    assert (silent.spec.bids_wanted, saying.spec.bids_wanted) == (setting, setting + 1)


async def test_a_job_runs_and_everything_about_it_can_be_asked(local: Local) -> None:
    view = await local.run(
        spec("print", "hello\n", "error", "warm\n", "write", "out/a.txt", "42", outputs=("out/*",), name="first")
    )
    job = view.summary.job_id
    assert view.summary.reason is EndReason.COMPLETED, view
    assert view.summary.phase is JobPhase.ENDED
    assert (view.summary.done, view.summary.running, view.bids) == (1, 0, 3)
    (attempt,) = view.slots[0].attempts
    assert attempt.phase is Phase.ENDED
    assert attempt.ending is not None
    assert attempt.ending.exit_code == 0
    assert attempt.started_at
    assert attempt.ended_at >= attempt.started_at

    out = await local.api.job_logs(JobLogParams(job))
    assert (out.data, out.complete, out.next_offset) == (b"hello\n", True, 6)
    err = await local.api.job_logs(JobLogParams(job[:8], stream="stderr", offset=2))
    assert (err.data, err.complete) == (b"rm\n", True)

    results = await local.api.job_results(JobParams(job))
    (file,) = results.slots[0].files
    assert results.complete
    assert (file.path, file.digest) == ("out/a.txt", digest_of(b"42"))
    assert digest_of(local.api._services.blobs.path(file.digest).read_bytes()) == file.digest
    assert file.blob == str(local.api._services.blobs.path(file.digest))

    decision = await local.api.job_decision(DecisionParams(job))
    assert decision.replayed
    assert decision.winners == (attempt.provider,)
    assert (decision.number, decision.of) == (1, 1)

    listed = await local.api.job_list(JobListParams())
    assert listed.total == 1
    assert listed.jobs[0] == msgspec.structs.replace(view.summary, detail=listed.jobs[0].detail)
    assert (await local.api.job_list(JobListParams(active=True))).total == 0

    told = await local.api.events_trace(TraceParams(job[:8]))
    assert next(step.kind for step in told.steps if step.stream == job) == "RequestOpened"
    assert told.steps[-1].kind in ("RequestEnded", "BidsReleased", "CapacityFreed", "ReceiptReceived", "LockReleased")


async def test_the_feed_delivers_every_byte_and_event_once_and_ends_with_the_job(local: Local) -> None:
    job = await local.submit(
        spec("print", "one\n", "sleep_ms", "30", "error", "two\n", "print", "three\n", "exit", "3")
    )
    updates = [update async for update in local.api.watch_job(WatchJobParams(job))]
    ids = [update.id for update in updates]
    assert ids == sorted(set(ids))
    ended = updates[-1]
    assert isinstance(ended, JobEnded)
    assert ended.job.summary.reason is EndReason.EXIT_NONZERO
    assert [type(update) for update in updates].count(JobEnded) == 1
    last = max(update.attempt for update in updates if isinstance(update, JobLog))
    for stream, text in (("stdout", b"one\nthree\n"), ("stderr", b"two\n")):
        parts = [u for u in updates if isinstance(u, JobLog) and u.stream == stream and u.attempt == last]
        assert b"".join(part.data for part in parts) == text
        assert next(part.offset for part in parts) == 0
    phases = [update.phase for update in updates if isinstance(update, SlotProgress) and update.attempt == 1]
    assert phases[0] is Phase.COMMITTED
    assert phases[-1] is Phase.ENDED


async def test_a_feed_goes_on_after_any_id_that_was_seen(local: Local) -> None:
    job = await local.submit(spec("print", "a" * 10, "print", "b" * 10))
    everything = [update async for update in local.api.watch_job(WatchJobParams(job))]
    for seen in everything[:-1]:
        rest = [update async for update in local.api.watch_job(WatchJobParams(job, since=seen.id))]
        assert rest[0].id > seen.id
        assert rest[-1] == everything[-1]
    logs = [update for update in everything if isinstance(update, JobLog)]
    middle = logs[0].id - 3  # inside a run of bytes
    rest = [u async for u in local.api.watch_job(WatchJobParams(job, since=middle)) if isinstance(u, JobLog)]
    whole = b"".join(update.data for update in logs)
    assert whole.endswith(b"".join(update.data for update in rest))
    assert rest[0].offset == len(logs[0].data) - 3
    silent = [update async for update in local.api.watch_job(WatchJobParams(job, logs=False))]
    assert not any(isinstance(update, JobLog) for update in silent)
    assert isinstance(silent[-1], JobEnded)


async def test_output_is_delivered_while_the_job_runs_and_a_cancelled_job_says_so(local: Local) -> None:
    job = await local.submit(spec("print", "ready", "wait"))
    seen = []
    async for update in local.api.watch_job(WatchJobParams(job)):
        seen.append(update)
        if isinstance(update, JobLog):
            assert update.data == b"ready"
            assert (await local.show(job)).summary.phase is JobPhase.RUNNING
            result = await local.api.job_cancel(JobParams(job))
            assert (result.cancelled, result.already_over) == (True, False)
    assert isinstance(seen[-1], JobEnded)
    assert seen[-1].job.summary.reason is EndReason.CANCELLED
    await until(lambda: local.market.nodes[0].services.orchestrators.get(job), lambda address: address is None)
    again = await local.api.job_cancel(JobParams(job))
    assert (again.cancelled, again.already_over) == (False, True)


async def test_several_slots_run_with_their_index(local: Local) -> None:
    view = await local.run(spec("print", "x", count=3))
    assert [slot.phase for slot in view.slots] == ["done"] * 3
    allocations = {slot.attempts[0].allocation_id for slot in view.slots}
    assert len(allocations) == 3
    for slot in range(3):
        assert (await local.api.job_logs(JobLogParams(view.summary.job_id, slot=slot))).data == b"x"
    with pytest.raises(UserError, match="slots 0 to 2"):
        await local.api.job_logs(JobLogParams(view.summary.job_id, slot=3))


async def test_an_impossible_job_is_over_at_once_and_says_what_would_help(local: Local) -> None:
    view = await local.run(spec("print", "x", needs=Resources(1000, 64 * GIB)))
    assert view.summary.reason is EndReason.IMPOSSIBLE
    explained = await local.api.job_explain(JobParams(view.summary.job_id))
    assert explained.counts[Outcome.DECLINED] == 3
    assert sum(explained.counts.values()) == len(explained.verdicts) == 3
    assert explained.impossible
    assert str(explained.suggestions[0]) == "lower memory 64 GiB -> 8 GiB: +3 nodes"


async def test_explaining_a_job_that_ran_names_every_node_once(local: Local) -> None:
    view = await local.run(spec("print", "x"))
    explained = await local.api.job_explain(JobParams(view.summary.job_id))
    assert {verdict.peer for verdict in explained.verdicts} == {peer_of(node) for node in local.market.nodes}
    assert explained.counts[Outcome.BID] == 3
    assert [verdict.price > 0 for verdict in explained.verdicts] == [False, True, True]  # its own machine costs nothing


async def test_a_job_whose_own_conditions_rule_everybody_out_says_which(local: Local) -> None:
    rule = 'offer.country == "DE"'
    view = await local.run(spec("print", "x", constraints=(rule,)))
    assert view.summary.reason is EndReason.IMPOSSIBLE
    explained = await local.api.job_explain(JobParams(view.summary.job_id))
    assert explained.counts[Outcome.DECLINED] == 3
    assert all(rule in verdict.clauses[0].wanted for verdict in explained.verdicts)


async def test_a_cut_off_node_is_unreachable_and_a_new_one_was_not_asked(local: Local) -> None:
    me, other, cut = (peer_of(node) for node in local.market.nodes)
    local.market.fabric.cut(me, cut)
    await until(local.market.nodes[0].state, lambda state: len(state.membership.greeted()) == 1)
    view = await local.run(spec("print", "x"))
    explained = await local.api.job_explain(JobParams(view.summary.job_id))
    outcomes = {verdict.peer: verdict.outcome for verdict in explained.verdicts}
    assert outcomes == {me: Outcome.BID, other: Outcome.BID, cut: Outcome.UNREACHABLE}
    assert "lost" in next(verdict.detail for verdict in explained.verdicts if verdict.peer == cut)


async def test_inputs_are_copied_and_a_changed_file_is_refused_by_name(local: Local, tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes(b"1,2,3\n")
    wanted = spec(
        "print",
        "x",
        inputs=(Input("in/data.csv", digest_of(b"1,2,3\n"), 6),),
        sources={digest_of(b"1,2,3\n"): str(file)},
    )
    blobs = local.market.nodes[0].services.blobs
    file.write_bytes(b"9,9,9\n")
    with pytest.raises(UserError, match=r"in/data\.csv.*has changed") as refused:
        await local.submit(wanted)
    assert refused.value.code == "bad_job"
    file.unlink()
    with pytest.raises(UserError, match=r"in/data\.csv: there is no file"):
        await local.submit(wanted)
    with pytest.raises(UserError, match="does not name it"):
        await local.submit(msgspec.structs.replace(wanted, sources={}))
    assert (await local.api.job_list(JobListParams())).total == 0
    file.write_bytes(b"1,2,3\n")
    view = await local.run(wanted)
    assert view.summary.reason is EndReason.COMPLETED, view
    kept = blobs.path(digest_of(b"1,2,3\n"))
    assert kept is not None
    assert view.spec.sources == {digest_of(b"1,2,3\n"): str(kept)}
    file.unlink()
    assert (await local.run(view.spec)).summary.reason is EndReason.COMPLETED  # as it stands it can be submitted again


@pytest.mark.parametrize(
    ("wanted", "code", "says"),
    [
        (spec("print", "x", preferences=Preferences(weights={"magic": 1.0})), "bad_argument", "magic"),
        (spec("print", "x", constraints=("offer.cpu >",)), "bad_expression", "offer.cpu >"),
        (spec("print", "x", resources=Resources(64_000)), "bad_job", "may use more than its needs"),
        (spec("print", "y" * 300_000), "bad_job", "at most"),
        (spec(inputs=(Input("a", EMPTY, 0), Input("a/b", EMPTY, 0))), "bad_job", "a is a file, and the directory of"),
        (spec(inputs=(Input("x" * 256, EMPTY, 0),)), "bad_job", "more than 255 bytes"),
        (
            spec(inputs=(Input("a/b", EMPTY, 0),), resources=Resources(1000, disk_bytes=7_000)),
            "bad_job",
            "is less than the inputs take, 8 KiB",
        ),
    ],
)
async def test_what_could_only_fail_later_is_refused_before_anything_is_written(
    local: Local, wanted: object, code: str, says: str
) -> None:
    with pytest.raises(UserError, match=says) as refused:
        await local.api.job_submit(SubmitParams(wanted))
    assert refused.value.code == code
    assert (await local.api.job_list(JobListParams())).total == 0


async def test_a_job_that_cannot_be_written_down_is_not_accepted_and_leaves_nobody_behind(local: Local) -> None:
    services = local.market.nodes[0].services
    (pages,) = await services.store.writing.run(lambda c: c.execute("PRAGMA page_count").fetchone())
    await services.store.writing.run(lambda c: c.execute(f"PRAGMA max_page_count = {pages}"))  # as full as a disk
    with pytest.raises(MachineError) as refused:
        await local.submit(spec("print", "x" * 30_000, "print", "x" * 30_000))
    assert refused.value.code == "disk_full"
    await services.store.writing.run(lambda c: c.execute("PRAGMA max_page_count = 1000000"))
    assert (await local.api.job_list(JobListParams())).total == 0
    assert (await local.run(spec("print", "x"))).summary.reason is EndReason.COMPLETED
    await until(services.orchestrators.ids, lambda ids: not ids)


async def test_short_ids_stand_for_a_job_only_while_they_are_unique(local: Local) -> None:
    first = (await local.run(spec("print", "x"))).summary.job_id
    assert (await local.show(first[:6])).summary.job_id == first
    with pytest.raises(UserError) as unknown:
        await local.show("r-zzzz")
    assert unknown.value.code == "not_found"
    second = (await local.run(spec("print", "x"))).summary.job_id
    with pytest.raises(UserError) as ambiguous:
        await local.show("r-")
    assert ambiguous.value.code == "ambiguous_id"
    assert {first, second} == {job.job_id for job in (await local.api.job_list(JobListParams())).jobs}


async def test_waiting_gives_the_job_as_it_stands_when_the_time_is_up(local: Local) -> None:
    job = await local.submit(spec("wait"))
    view = await local.api.job_wait(WaitParams(job, 20))
    assert view.summary.ended_at == 0
    await local.api.job_cancel(JobParams(job))
    assert (await local.api.job_wait(WaitParams(job, 10_000))).summary.reason is EndReason.CANCELLED


async def test_a_waiting_job_says_what_it_waits_for(local: Local) -> None:
    for node in range(3):
        await local.apis[node].node_pause()
    job = await local.submit(spec("print", "x"))
    view = await until(lambda: local.show(job), lambda view: view.summary.phase is JobPhase.WAITING)
    assert "busy" in view.summary.detail or "answered" in view.summary.detail or "no other node" in view.summary.detail
    listed = (await local.api.job_list(JobListParams(active=True))).jobs[0]
    assert (listed.phase, listed.detail) == (view.summary.phase, view.summary.detail)
    await local.apis[1].node_resume()
    assert (await local.api.job_wait(WaitParams(job, 20_000))).summary.reason is EndReason.COMPLETED


async def test_the_story_agrees_with_the_auctions_own_state_after_every_event(local: Local) -> None:
    wanted = (
        spec("print", "x", count=3),
        spec("exit", "4"),
        spec("end", "provider_fault", retry_node_faults=1),
        spec("x", needs=Resources(64_000)),
    )
    for one in wanted:
        job = (await local.run(one)).summary.job_id
        story, auction = JobStory(job), Auction()
        for row in await local.market.nodes[0].services.store.read_stream(job):
            story.apply(row)
            auction = evolve(auction, from_row(row))
            assert [slot.phase for slot in story.slots] == [slot.phase for slot in auction.slots], row.kind
            assert story.price == sum(slot.price for slot in auction.slots)
        assert story.ended == auction.ending
        assert [slot.ending for slot in story.slots] == [slot.ending for slot in auction.slots]
        assert (story.held, story.running) == (0, 0)


async def test_a_restarted_node_still_tells_everything_about_its_jobs(local: Local) -> None:
    before = await local.run(spec("print", "kept\n", count=2))
    job = before.summary.job_id
    await local.restart(0)
    assert await local.show(job) == before
    assert (await local.api.job_logs(JobLogParams(job, slot=1))).data == b"kept\n"
    updates = [update async for update in local.api.watch_job(WatchJobParams(job))]
    assert [update.data for update in updates if isinstance(update, JobLog)] == [b"kept\n", b"kept\n"]
    assert updates[-1].job == before
    assert (await local.api.job_decision(DecisionParams(job))).replayed


async def test_secrets_are_in_no_answer_and_in_no_event(local: Local) -> None:
    """The value is sealed when the job is submitted: what is stored and shown has its name only."""
    value = b"value-of-the-secret"
    view = await local.run(msgspec.structs.replace(spec("print", "x"), secrets=(OpenSecret("KEY", value),)))
    assert view.summary.reason is EndReason.COMPLETED, view
    assert view.spec.task.secrets == (Secret("KEY"),)
    assert view.spec.secrets == ()
    for node in local.market.nodes:
        async for event in node.services.store.read_all():
            assert value not in event.body
    with pytest.raises(UserError, match="values of its secrets are not in it"):
        await local.submit(view.spec)


@pytest.mark.parametrize(
    ("secrets", "rule"),
    [
        ((OpenSecret("KEY", b"a"), OpenSecret("KEY", b"b")), "two of its secrets have one name"),
        ((OpenSecret("KEY", b"\0", variable=True),), "KEY is no text"),
    ],
)
async def test_secrets_that_no_run_could_be_given_are_refused(
    local: Local, secrets: tuple[OpenSecret, ...], rule: str
) -> None:
    with pytest.raises(UserError, match=rule):
        await local.submit(msgspec.structs.replace(spec("print", "x"), secrets=secrets))


async def test_a_secret_sealed_for_somebody_else_ends_the_job_with_the_reason(local: Local) -> None:
    """As when a node's key was changed while its job waited."""
    node = local.market.nodes[0]
    terms = local.market.terms("print", "x")
    foreign = Task("scripted", ("print", "x"), resources=terms.task.resources, limits=terms.task.limits)
    strange = msgspec.structs.replace(foreign, secrets=(Secret("KEY", bytes(200)),))
    changed = msgspec.structs.replace(terms, task=strange)
    await ask_from_loop(node.services.node, Submit(changed, "test"), 10.0)
    view = await local.api.job_wait(WaitParams(changed.request_id, 20_000))
    assert view.summary.reason is EndReason.BAD_PROGRAM
    assert "KEY was not sealed for this node" in view.summary.detail


@pytest.mark.parametrize(("memory", "said"), [(64, "memory is 64 B"), (MIB, "memory is 1 MiB")])
async def test_less_memory_than_a_job_can_be_held_to_is_refused(local: Local, memory: int, said: str) -> None:
    """It would be reserved, and paid for, as something else than what the job really gets."""
    wanted = spec(needs=msgspec.structs.replace(NEEDS, memory_bytes=memory))
    with pytest.raises(UserError, match=f"{said}, and no job can be held to less than 8 MiB") as refused:
        await local.api.job_submit(SubmitParams(wanted))
    assert "64MiB" in refused.value.hint
    await local.api.market_ask(AskParams(spec(needs=msgspec.structs.replace(NEEDS, memory_bytes=8 * MIB))))
