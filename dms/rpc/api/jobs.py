"""job.*: the owner's own work, from submission to results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Any, Protocol

import msgspec

from dms.jobs.spec import JobSpec
from dms.rpc.api.allocations import MAX_LOG_CHUNK, CancelResult, ChunkBytes, Limit, LogPart
from dms.rpc.api.benchmarks import BenchmarkView
from dms.rpc.registry import feed, method
from dms_proto.ids import AllocationId, Digest, PeerId, RequestId
from dms_proto.market.answers import GivenAgain
from dms_proto.market.explain import Explanation
from dms_proto.market.ranking import Decision
from dms_proto.messages import Award, Phase
from dms_proto.rules import Amount, Slot
from dms_proto.work import Ending, EndReason, Owner, Usage


class JobPhase(StrEnum):
    """Where a job is as a whole; the order is the usual one."""

    ASKING = "asking"
    WAITING = "waiting"
    RUNNING = "running"
    CANCELLING = "cancelling"
    ENDED = "ended"


class JobParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job.

    Attributes:
        job_id: its request id, or a unique beginning of it.
    """

    job_id: str


class SubmitParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job to be done.

    Attributes:
        spec: the job.
    """

    spec: JobSpec


class Submitted(msgspec.Struct, frozen=True):
    """A job was accepted; or one that ended earlier is its answer.

    Attributes:
        job_id: its request id.
        answered_at: when the earlier job ended whose result will do, since the job wished so (`cache`); 0: this one is under way now.
    """

    job_id: RequestId
    answered_at: int = 0


class Attempt(msgspec.Struct, frozen=True):
    """One try at filling a slot.

    Attributes:
        number: from 1.
        provider: the node.
        allocation_id: there.
        phase: of the allocation.
        started_at: Unix ms of the acknowledged commit.
        ended_at: Unix ms; 0 before the end.
        ending: how it ended; None before the end.
        usage: so far.
        price: micro-credits owed so far.
        why: when another try follows, why.
        disputed: where this node's receipt does not say what the provider's status said; empty while both agree.
        doing: what its provider says it does before it can run; empty once it runs.
        frozen: why it stands still there; empty while it does not.
    """

    number: int
    provider: PeerId
    allocation_id: AllocationId
    phase: Phase
    started_at: int
    ended_at: int = 0
    ending: Ending | None = None
    usage: Usage = Usage()
    price: int = 0
    why: str = ""
    disputed: str = ""
    doing: str = ""
    frozen: str = ""


class SlotView(msgspec.Struct, frozen=True):
    """One of a job's allocations-to-be.

    Attributes:
        index: from 0.
        piece: the piece of work, from 0 to `count`; DMS_INDEX in its environment. Several slots run copies of one where results are checked.
        phase: "seeking", "committing", "held", "collecting" or "done".
        attempts: oldest first.
        ending: final; None before.
        size: what came of the last change of its size, in words; empty: none was asked for.
    """

    index: int
    phase: str
    attempts: tuple[Attempt, ...] = ()
    ending: Ending | None = None
    piece: int = 0
    size: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """Which result of a piece of work holds, where results are checked.

    Attributes:
        piece: from 0 to `count`.
        at: Unix ms.
        accepted: the slot whose result it is; None: undecided.
        right: nodes that agree with it, once it was checked; none where it was taken as it is.
        wrong: nodes that gave another result; they are not paid.
        unjudged: nodes whose answer is neither; if it cannot be compared though the accepted one can, they are trusted no longer.
        why: why it is undecided.
        cost: micro-credits for all copies but the accepted one: what the check cost.
        comparator: what said which answers are the same, with its version; empty: their hashes.
    """

    piece: int
    at: int
    accepted: int | None = None
    right: tuple[PeerId, ...] = ()
    wrong: tuple[PeerId, ...] = ()
    unjudged: tuple[PeerId, ...] = ()
    why: str = ""
    cost: int = 0
    comparator: str = ""


class JobSummary(msgspec.Struct, frozen=True):
    """A job in a line.

    Attributes:
        job_id: its request id.
        name: for people.
        phase: where it is.
        count: allocations wanted.
        running: allocations running now.
        done: of the allocations wanted, those that ended; where results are checked, those whose result was judged.
        submitted_at: Unix ms.
        ended_at: Unix ms; 0 before the end.
        price: micro-credits owed so far.
        reason: why it ended; None before the end.
        owner: whose doing the end was; None before it.
        detail: one line: what it waits for, or how it ended.
    """

    job_id: RequestId
    name: str
    phase: JobPhase
    count: int
    running: int
    done: int
    submitted_at: int
    ended_at: int = 0
    price: int = 0
    reason: EndReason | None = None
    owner: Owner | None = None
    detail: str = ""


class JobView(msgspec.Struct, frozen=True):
    """A job in full.

    Attributes:
        summary: the job in a line.
        spec: as submitted.
        slots: in order of index.
        round: rounds of asking so far, from 1.
        bids: bids received in all rounds.
        declines: nodes that declined in the last round.
        kept_until: Unix ms until which results and logs are kept at least, if there is room (`store.keep_jobs_ms`); 0 before the end.
        gone: result files that are not here any more.
        verdicts: where results are checked, in the order in which they were judged.
        benchmark: what a spot check has found; None: it is not over, or the job is none.
        given_again: how often its result was the answer to the same work, in place of running that (`cache`); said by job.show.
    """

    summary: JobSummary
    spec: JobSpec
    slots: tuple[SlotView, ...]
    round: int = 0
    bids: int = 0
    declines: int = 0
    kept_until: int = 0
    gone: int = 0
    verdicts: tuple[Verdict, ...] = ()
    benchmark: BenchmarkView | None = None
    given_again: GivenAgain = GivenAgain()

    @property
    def outcomes(self) -> tuple[SlotView, ...]:
        """The slots that count for the job: all of them, or where results are checked those whose results were accepted."""
        if not self.spec.verify.is_on:
            return self.slots
        return tuple(self.slots[each.accepted] for each in self.verdicts if each.accepted is not None)


class JobListParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which jobs.

    Attributes:
        active: only those that have not ended.
        limit: at most so many, newest first.
    """

    active: bool = False
    limit: Limit = 100


class JobList(msgspec.Struct, frozen=True):
    """Jobs.

    Attributes:
        jobs: newest first.
        total: how many match, shown or not.
    """

    jobs: tuple[JobSummary, ...]
    total: int


class DecisionParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which decision of a job.

    Attributes:
        job_id: its request id, or a unique beginning of it.
        number: from 1; 0 for the last.
    """

    job_id: str
    number: Amount = 0


class DecisionView(msgspec.Struct, frozen=True):
    """A choice between bids, and whether it can be repeated.

    Attributes:
        job_id: the job.
        number: of the decision, from 1.
        of: how many decisions the job has.
        at: Unix ms.
        decision: all that went into it: bids, preferences, scores, summands, reasons.
        winners: the nodes that were awarded slots, best first.
        replayed: computed again from the stored facts, it gives the same order.
        why_not: why it cannot be computed again: the plug-in that made it is gone.
        award: what the winner of a second price is paid, and the bid that sets it.
    """

    job_id: RequestId
    number: int
    of: int
    at: int
    decision: Decision
    winners: tuple[PeerId, ...]
    replayed: bool
    why_not: str = ""
    award: Award | None = None


class JobLogParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of a job's log.

    Attributes:
        job_id: its request id, or a unique beginning of it.
        slot: index of the allocation. Without an attempt: the piece of work, by the slot whose result was accepted.
        attempt: number of the try; 0 for the last.
        stream: "stdout" or "stderr".
        offset: first byte wanted.
        limit: at most so many bytes.
        since: Unix ms; only what came here then or later, to the second. 0: all.
    """

    job_id: str
    slot: Slot = 0
    attempt: Amount = 0
    stream: Annotated[str, msgspec.Meta(pattern="^std(out|err)$")] = "stdout"
    offset: Amount = 0
    limit: ChunkBytes = MAX_LOG_CHUNK
    since: Amount = 0


class ResultFile(msgspec.Struct, frozen=True):
    """A file a job left.

    Attributes:
        path: relative, as the job named it.
        digest: of its content, verified.
        size: bytes.
        blob: where the content lies on this machine; empty while it is not here.
    """

    path: str
    digest: Digest
    size: int
    blob: str


class SlotResults(msgspec.Struct, frozen=True):
    """What one piece of work left: its slot, or where results are checked the slot whose result was accepted.

    Attributes:
        index: of the piece.
        ending: how it ended; None before.
        files: collected outputs.
    """

    index: int
    ending: Ending | None
    files: tuple[ResultFile, ...]


class JobResults(msgspec.Struct, frozen=True):
    """What a job left.

    Attributes:
        job_id: the job.
        complete: the job is over and all its files are here.
        slots: in order of index.
    """

    job_id: RequestId
    complete: bool
    slots: tuple[SlotResults, ...]


class WaitParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long to wait for a job.

    Attributes:
        job_id: its request id, or a unique beginning of it.
        timeout_ms: after which the job is returned as it stands, at most one hour.
    """

    job_id: str
    timeout_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 60_000


# ---------------------------------------------------------------------------------------------------------------- updates


class JobUpdate(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of what the feed "job" delivers. `id` grows strictly within a job and stays the same when it is delivered again.

    Attributes:
        id: position in the job's feed; give the last one seen as `since` to go on after it.
        at: Unix ms.
    """

    id: int
    at: int


class JobProgress(JobUpdate, frozen=True, tag="progress"):
    """The job moved on.

    Attributes:
        phase: where it is now.
        text: one line for a person.
        bids: received in this round.
        declines: received in this round.
        running: allocations running now.
        done: slots that ended.
    """

    phase: JobPhase
    text: str
    bids: int = 0
    declines: int = 0
    running: int = 0
    done: int = 0


class SlotProgress(JobUpdate, frozen=True, tag="slot"):
    """An attempt entered a phase, or its provider says what it does before it can run.

    Attributes:
        slot: index.
        attempt: number of the try, from 1.
        provider: the node.
        phase: of the allocation.
        ending: with phase "ended".
        doing: a line for a person, as the provider says it: how far an image has been pulled. The phase is the same as before, then.
    """

    slot: int
    attempt: int
    provider: PeerId
    phase: Phase
    ending: Ending | None = None
    doing: str = ""


class JobLog(JobUpdate, frozen=True, tag="log"):
    """Bytes the program wrote.

    Attributes:
        slot: index.
        attempt: number of the try; a later try begins again at offset 0.
        stream: "stdout" or "stderr".
        offset: of the first byte of `data` in the stream.
        data: base64 in JSON.
    """

    slot: int
    attempt: int
    stream: str
    offset: int
    data: bytes


class JobEnded(JobUpdate, frozen=True, tag="ended"):
    """The job is over; the last update. All logs were delivered before it, and its files are collected.

    Attributes:
        job: the job in full.
    """

    job: JobView


AnyJobUpdate = JobProgress | SlotProgress | JobLog | JobEnded


def read_update(item: dict[str, Any]) -> AnyJobUpdate:
    """An item of the feed "job" as a client received it."""
    update: AnyJobUpdate = msgspec.convert(item, AnyJobUpdate)
    return update


class WatchJobParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which job to watch, and from where.

    Attributes:
        job_id: its request id, or a unique beginning of it.
        since: id of the last update seen; 0 for all that is kept.
        logs: whether to deliver what the program writes.
    """

    job_id: str
    since: Amount = 0
    logs: bool = True


class JobMethods(Protocol):
    """The owner's jobs."""

    @method("job.submit", mutates=True)
    async def job_submit(self, params: SubmitParams) -> Submitted:
        """Accepts a job. Its inputs are copied and checked before the answer; it costs at most count times its maximum price."""
        ...

    @method("job.list")
    async def job_list(self, params: JobListParams) -> JobList:
        """The jobs of this node's owner."""
        ...

    @method("job.show")
    async def job_show(self, params: JobParams) -> JobView:
        """One job in full: slots, attempts, reason and price."""
        ...

    @method("job.explain")
    async def job_explain(self, params: JobParams) -> Explanation:
        """Why a job runs where it does, or does not run: one verdict for each node known, and what would change it."""
        ...

    @method("job.decision")
    async def job_decision(self, params: DecisionParams) -> DecisionView:
        """How a choice between bids was made: score, summands and reasons, recomputed from the store."""
        ...

    @method("job.cancel", mutates=True)
    async def job_cancel(self, params: JobParams) -> CancelResult:
        """Stops a job. It ends as cancelled; what it used is owed."""
        ...

    @method("job.logs")
    async def job_logs(self, params: JobLogParams) -> LogPart:
        """Part of what a job wrote, as far as it has arrived here."""
        ...

    @method("job.results")
    async def job_results(self, params: JobParams) -> JobResults:
        """The files a job left: where their content lies on this machine."""
        ...

    @method("job.wait")
    async def job_wait(self, params: WaitParams) -> JobView:
        """The job when it is over, or as it stands when the time is up."""
        ...

    @feed("job")
    def watch_job(self, params: WatchJobParams) -> AsyncIterator[AnyJobUpdate]:
        """Everything that happens to one job, until its `ended` update."""
        ...
