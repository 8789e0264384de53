"""job.*: the owner's own work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from functools import partial
from typing import Final

import msgspec

from dms.executors.limiter.base import LEAST_MEMORY
from dms.jobs.spec import JobSpec
from dms.node.api.base import ASK_S, Base, call_id
from dms.node.api.views import in_its_turn, job_summary
from dms.node.comparing import check_result_comparator
from dms.node.dataset_jobs import with_datasets
from dms.node.doings import BEFORE_RUNNING, Doings
from dms.node.earlier import check_cacheable, earlier
from dms.node.explain import explanation, inquiry_of, opening_request, with_agents
from dms.node.images import pin_image
from dms.node.log_reading import log_part
from dms.node.logs import STREAMS
from dms.node.naming import pin_node
from dms.node.projecting.tables import JOBS
from dms.node.sealing import check_value
from dms.node.services import Services
from dms.node.story import AttemptStory, JobStory
from dms.rpc.api.allocations import CancelResult, LogPart
from dms.rpc.api.jobs import (
    AnyJobUpdate,
    DecisionParams,
    DecisionView,
    JobList,
    JobListParams,
    JobLogParams,
    JobParams,
    JobPhase,
    JobResults,
    JobView,
    ResultFile,
    SlotResults,
    SlotView,
    SubmitParams,
    Submitted,
    WaitParams,
    WatchJobParams,
)
from dms.rpc.ids import check_slot
from dms_actors.events import from_row, to_row
from dms_actors.letters import RequestOver, Submit, Told
from dms_actors.runtime import ask_from_loop
from dms_proto.checkpoints import task_flaw
from dms_proto.errors import DmsError, UserError
from dms_proto.ids import PeerId, RequestId, request_id
from dms_proto.market.answers import ANSWERS_STREAM, EarlierGiven, given_again
from dms_proto.market.auction_messages import task_of
from dms_proto.market.auction_stimuli import CancelAsked
from dms_proto.market.auction_terms import Terms
from dms_proto.market.comparators import check_comparator, replay
from dms_proto.market.explain import Explanation
from dms_proto.market.offer_judgement import task_fits
from dms_proto.market.preferences import check_preferences
from dms_proto.market.second_price import check_usable
from dms_proto.market.seekers import turn_in_words
from dms_proto.messages import Pricing
from dms_proto.siblings import flaw_of
from dms_proto.units import format_bytes, format_count
from dms_proto.verification.policy import faults
from dms_proto.wire import MAX_TASK
from dms_proto.work import EndReason, Output

MOST_ANSWERS: Final = 10_000
"""Answers by one job that are counted."""
SEED_BYTES: Final = 32
"""Of the secret that says which results are checked."""


class JobGroup(Base):
    """The methods of `dms.rpc.api.jobs.JobMethods`."""

    async def job_submit(self, params: SubmitParams) -> Submitted:
        """See `JobMethods`."""
        services, spec = self._services, await self._pinned(params.spec)
        _check_secrets(spec)
        terms = self._terms(spec, request_id(os.urandom(16)))
        await self._check(terms)
        if spec.cache:
            check_cacheable(terms)
            if (answer := await earlier(terms, services, self._runner)) is not None:
                given = EarlierGiven(answer.job_id, answer.answered_at, self._now())
                await services.store.append([to_row(ANSWERS_STREAM, given, answer.job_id)])
                return answer
        cause = call_id("job.submit")
        async with self._parts.inputs.copied(terms.request_id, spec):
            try:
                await ask_from_loop(services.node, Submit(terms, cause), ASK_S)
            except DmsError:
                services.node.tell(RequestOver(terms.request_id))  # it was not accepted: nobody is to resume it
                raise
        return Submitted(terms.request_id)

    async def _pinned(self, spec: JobSpec) -> JobSpec:
        """The job with its image and datasets by digest and its node by PeerID."""
        spec = await pin_image(spec, self._services.config)
        if spec.node:
            spec = await self._at_its_node(spec)
        await self._services.finding.bring([wish.dataset for wish in spec.datasets])
        datasets, self_bids = self._services.datasets, self._services.config.provider.enabled
        placed = partial(with_datasets, spec, datasets, self._me, self_bids=self_bids)
        # Manifests alone are on the disk; most jobs read none, and are not to pay for a thread.
        read = await asyncio.to_thread(placed) if spec.datasets or spec.task.datasets else placed()
        return await self._at_its_node(read) if read.node != spec.node else read

    async def _at_its_node(self, spec: JobSpec) -> JobSpec:
        membership, config = (await self._state()).membership, self._services.config
        own_name = membership.hello.name if membership.hello is not None else ""
        return pin_node(spec, membership, own_name, self_bids=config.provider.enabled)

    def _terms(self, spec: JobSpec, id_: RequestId) -> Terms:
        market, now = self._services.config.market, self._now()
        return Terms(
            request_id=id_,
            requester=self._me,
            task=msgspec.structs.replace(spec.task, secrets=self._services.sealer.keep(id_, spec.secrets)),
            needs=spec.needs,
            name=spec.name,
            count=spec.count,
            together=spec.together,
            bids_wanted=spec.bids_wanted or market.bids_wanted,
            max_price=spec.max_price,
            budget=spec.budget,
            pricing=spec.pricing,
            preferences=spec.preferences_over(self._parts.owner.preferences),
            window_ms=market.window_ms,
            ack_timeout_ms=market.ack_timeout_ms,
            queue_ms=spec.queue_ms,
            patience_ms=spec.patience_ms,
            deadline_at=now + spec.deadline_ms if spec.deadline_ms else 0,
            job_failures=spec.retry_job_failures,
            node_faults=spec.retry_node_faults,
            checkpoints=spec.retry_checkpoints,
            priority=spec.priority,
            verify=spec.verify,
            only=PeerId(spec.node),
            seed=os.urandom(SEED_BYTES),
        )

    async def _check(self, terms: Terms) -> None:
        """Refuses what could only fail later.

        Raises:
            UserError: `bad_job`, `bad_argument`, `bad_expression`.
        """
        check_preferences(terms.preferences)
        check_comparator(terms.preferences.comparator)
        for field, rule in faults(terms.verify, terms.count):
            raise UserError("bad_job", f"verify.{field}: {rule}")
        await check_result_comparator(terms.verify)
        if terms.pricing is Pricing.SECOND_PRICE:
            check_usable(terms.preferences, terms.count, is_checked=terms.verify.is_on)
        if not task_fits(terms.task, terms.needs.resources, terms.needs.max_wall_ms):
            raise UserError(
                "bad_job", "the task may use more than its needs ask for: every node would refuse to run it"
            )
        if flaw := task_flaw(terms.task, is_checked=terms.verify.is_on):
            raise UserError("bad_job", f"checkpoint: {flaw}")
        if flaw := _names_flaw(terms):
            raise UserError("bad_job", f"names: {flaw}")
        if terms.task.egress != terms.needs.egress:
            raise UserError("bad_job", "task.egress and needs.egress differ: what was not asked for leads nowhere")
        memory = terms.needs.resources.memory_bytes
        if 0 < memory < LEAST_MEMORY:
            raise UserError(
                "bad_job",
                f"memory is {format_bytes(memory)}, and no job can be held to less than {format_bytes(LEAST_MEMORY)}",
                hint="write the amount with its unit, such as 64MiB; a number alone is bytes",
            )
        size = len(msgspec.msgpack.encode(task_of(terms, 0)))
        if size > MAX_TASK:
            raise UserError(
                "bad_job",
                f"the task takes {format_bytes(size)} as a message, at most {format_bytes(MAX_TASK)} can be sent",
                hint="pack many inputs into one archive, or put long arguments into a file",
            )
        request = opening_request(terms)
        self._services.post.check_fits(msgspec.structs.replace(request, reply_to=self._parts.reply_to))

    async def job_list(self, params: JobListParams) -> JobList:
        """See `JobMethods`."""
        rows, total = await self._newest(JOBS, {"open": 1} if params.active else {}, "submitted_at", params.limit)
        jobs = tuple(job_summary(row) for row in rows)
        if waiting := [job.job_id for job in jobs if job.phase is JobPhase.WAITING]:
            ahead = await self._ahead(*waiting)
            jobs = tuple(in_its_turn(job, ahead) for job in jobs)
        return JobList(jobs, total)

    async def job_show(self, params: JobParams) -> JobView:
        """See `JobMethods`."""
        job = await self._job_id(params.job_id)
        view = self._view(await self._story(job))
        if view.summary.phase is JobPhase.WAITING:
            return msgspec.structs.replace(view, summary=in_its_turn(view.summary, await self._ahead(job)))
        return msgspec.structs.replace(view, given_again=given_again(await self._answers_by(job)))

    async def _answers_by(self, job: RequestId) -> list[EarlierGiven]:
        rows = await self._services.store.query(stream=ANSWERS_STREAM, cause_id=job, limit=MOST_ANSWERS)
        return [event for event in map(from_row, rows) if isinstance(event, EarlierGiven)]

    def _view(self, story: JobStory) -> JobView:
        return view_of(story, self._services)

    async def job_explain(self, params: JobParams) -> Explanation:
        """See `JobMethods`."""
        story = await self._story(await self._job_id(params.job_id))
        members = (await self._state()).membership
        found = explanation(inquiry_of(story, members), members, self._now(), is_over=story.ended is not None)
        if (ahead := (await self._ahead(story.request_id)).get(story.request_id)) is not None:
            found = msgspec.structs.replace(found, turn=turn_in_words(ahead))
        return with_agents(found, story.terms) if story.terms is not None else found

    async def job_decision(self, params: DecisionParams) -> DecisionView:
        """See `JobMethods`."""
        job = await self._job_id(params.job_id)
        made = (await self._story(job)).decisions
        number = params.number or len(made)
        if not 1 <= number <= len(made):
            what = (
                f"job {job} has {format_count(len(made), 'decision')}"
                if made
                else f"no bids were compared for job {job} yet"
            )
            raise UserError("not_found", what, hint=f"dms job explain {job}")
        at, award = made[number - 1]
        decision = award.decision
        providers = {entry.bid_id: entry.provider for entry in decision.ranking.ranked}
        try:
            again, why_not = await asyncio.to_thread(replay, decision), ""
        except UserError as error:
            again, why_not = None, error.message
        winners = tuple(providers[bid_id] for bid_id, _ in award.taken)
        is_same = again == decision.ranking
        return DecisionView(job, number, len(made), at, decision, winners, is_same, why_not, award.paid)

    async def job_cancel(self, params: JobParams) -> CancelResult:
        """See `JobMethods`."""
        job = await self._job_id(params.job_id)
        told = self._services.orchestrators.tell(job, Told(CancelAsked(), call_id("job.cancel")))
        return CancelResult(job, cancelled=told, already_over=not told)

    async def job_logs(self, params: JobLogParams) -> LogPart:
        """See `JobMethods`."""
        job = await self._job_id(params.job_id)
        story = await self._story(job)
        attempt = _attempt(story, params)
        if attempt is None:
            return LogPart(b"", params.offset, params.offset, complete=story.ended is not None)
        logs = self._services.collector.logs
        if attempt.ending is not None and logs.length(attempt.allocation_id, params.stream) < _logged(
            attempt, params.stream
        ):
            raise UserError(
                "not_found",
                f"the log of {attempt.allocation_id} is not here any more",
                hint="store.keep_jobs_ms says how long logs are kept",
            )
        part = log_part(logs, attempt.allocation_id, params, is_over=attempt.ending is not None)
        is_last = (
            params.attempt > 0
            or story.ended is not None
            or (attempt.ending is not None and attempt.ending.reason is EndReason.COMPLETED)
        )
        before = story.slots[attempt.slot].attempts[: attempt.number - 1]
        return msgspec.structs.replace(
            part,
            complete=part.complete and is_last,
            attempt=attempt.number,
            goes_on=any(each.checkpoint for each in before),
        )

    async def job_results(self, params: JobParams) -> JobResults:
        """See `JobMethods`."""
        job = await self._job_id(params.job_id)
        story = await self._story(job)
        slots = tuple(
            SlotResults(
                piece,
                slot.ending if slot is not None else None,
                tuple(self._file(output) for output in slot.outputs) if slot is not None else (),
            )
            for piece, slot in story.outcomes
        )
        are_here = all(file.blob for slot in slots for file in slot.files)
        return JobResults(job, story.ended is not None and are_here, slots)

    def _file(self, output: Output) -> ResultFile:
        blob = self._services.blobs.path(output.digest)
        return ResultFile(output.path, output.digest, output.size, str(blob) if blob is not None else "")

    async def job_wait(self, params: WaitParams) -> JobView:
        """See `JobMethods`."""
        job = await self._job_id(params.job_id)
        await self._parts.feeds.until_ended(job, params.timeout_ms / 1000)
        return self._view(await self._story(job))

    async def watch_job(self, params: WatchJobParams) -> AsyncIterator[AnyJobUpdate]:
        """See `JobMethods`."""
        job = await self._job_id(params.job_id)
        async for update in self._parts.feeds.follow(job, params.since, logs=params.logs):
            yield update


def view_of(story: JobStory, services: Services) -> JobView:
    """A job in full; its inputs are named where they lie in the blob store, so that it can be submitted again."""
    assert story.terms is not None, "a job begins with RequestOpened"
    blobs, keep_ms = services.blobs, services.config.store.keep_jobs_ms
    there = {wanted.digest: blobs.path(wanted.digest) for wanted in story.terms.task.inputs}
    view = story.view({digest: str(path) for digest, path in there.items() if path is not None})
    if story.ended is None:
        return _with_doings(view, services.collector.doings)
    gone = sum(blobs.path(output.digest) is None for slot in story.slots for output in slot.outputs)
    return msgspec.structs.replace(view, kept_until=story.ended.at + keep_ms, gone=gone)


def _with_doings(view: JobView, doings: Doings) -> JobView:
    """With what providers say that they do, where something is not running yet."""
    replace = msgspec.structs.replace

    def told(slot: SlotView) -> SlotView:
        attempts = tuple(
            replace(attempt, doing=doings.line(attempt.allocation_id)) if attempt.phase in BEFORE_RUNNING else attempt
            for attempt in slot.attempts
        )
        return replace(slot, attempts=attempts)

    return replace(view, slots=tuple(map(told, view.slots)))


def _check_secrets(spec: JobSpec) -> None:
    """Refuses secrets that no run could be given.

    Raises:
        UserError: `bad_job`.
    """
    if spec.task.secrets and not spec.secrets:
        raise UserError(
            "bad_job",
            "the values of its secrets are not in it: no answer of a node holds them",
            hint="submit the job's document again",
        )
    names = [secret.name for secret in spec.secrets]
    if len(set(names)) < len(names):
        raise UserError("bad_job", "two of its secrets have one name")
    for secret in spec.secrets:
        check_value(secret)


def _attempt(story: JobStory, params: JobLogParams) -> AttemptStory | None:
    """The attempt a caller means; None when its slot has not run yet.

    Raises:
        UserError: `not_found`: there is no such slot or attempt.
    """
    check_slot(params.slot, len(story.slots), story.request_id)
    outcome = dict(story.outcomes).get(params.slot)
    if params.attempt == 0 and outcome is not None:
        return outcome.attempts[-1] if outcome.attempts else None
    attempts = story.slots[params.slot].attempts
    if params.attempt == 0:
        return attempts[-1] if attempts else None
    if params.attempt > len(attempts):
        raise UserError(
            "not_found", f"slot {params.slot} of job {story.request_id} had {format_count(len(attempts), 'attempt')}"
        )
    return attempts[params.attempt - 1]


def _logged(attempt: AttemptStory, stream: str) -> int:
    """Bytes the stream had, as far as was told and had to be there for the attempt to end well."""
    complete = attempt.ending is not None and attempt.ending.reason is EndReason.COMPLETED
    return attempt.log_bytes[STREAMS.index(stream)] if complete else 0


def _names_flaw(terms: Terms) -> str:
    """Why its allocations cannot have names, where they are wanted."""
    task = terms.task
    is_checked = terms.verify.is_on
    return flaw_of(task.executor, terms.count, len(task.ports), is_checked=is_checked) if task.names.count else ""
