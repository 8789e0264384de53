"""The jobs of the in-memory node: what each does once it is submitted is a script."""

# ruff: noqa: D102 - every method is described where it is declared, in dms.rpc.api

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from dms.rpc.api import allocations, jobs, market
from dms.rpc.feed import Feed
from dms.rpc.ids import match_id
from dms_proto.capability import Capability, ExecutorOffer, Isolation, Price, Resources
from dms_proto.errors import UserError
from dms_proto.ids import BidId, PeerId, RequestId, allocation_id, bid_id, digest_of, peer_id_of, request_id
from dms_proto.market.candidates import Candidate
from dms_proto.market.explain import Explanation, NodeVerdict, Outcome, explain
from dms_proto.market.preferences import Preferences
from dms_proto.market.price_history import Asked, Fate, suggest
from dms_proto.market.ranking import Decision, rank
from dms_proto.messages import BidRequest, Clause, Phase
from dms_proto.units import DAY, GIB
from dms_proto.work import OWNERS, Ending, EndReason, Usage

NOW = 1_700_000_000_000
"""Unix ms: the fixed clock of this node, so that what is printed can be compared."""
ALPHA, BETA, GAMMA = (peer_id_of(bytes([number]) * 32) for number in (1, 2, 3))
OFFER = Capability(
    resources=Resources(4000, 8 * GIB, 100 * GIB),
    architecture="x86_64",
    cpu_score=1000,
    executors=(ExecutorOffer("sandbox", "0.11", Isolation.NAMESPACES, ("cpu", "memory")),),
    price=Price(cpu_core_hour=10_000, memory_gib_hour=2_000),
)


class Script(msgspec.Struct, frozen=True):
    """What a job does once it is submitted.

    Attributes:
        logs: (slot, stream, bytes) in order.
        endings: per slot.
        files: path to content that each slot leaves.
        runs: False: nobody bids, and the job ends for `reason` without running.
        reason: of the whole job when it does not run.
        holds: the job runs until it is cancelled.
        waits: the job waits for this, until it is cancelled.
    """

    logs: tuple[tuple[int, str, bytes], ...] = ((0, "stdout", b"hello\n"),)
    endings: tuple[Ending, ...] = (Ending(EndReason.COMPLETED, 0),)
    files: dict[str, bytes] = {}
    runs: bool = True
    reason: EndReason = EndReason.NO_BIDS
    holds: bool = False
    waits: str = ""


class MemoryJobs:
    """job.*, alloc.*, market.*, bids.* and requests.* in memory; the rest of `dms.testing.node_api.MemoryNode` is beside it.

    Args:
        directory: where results are put.
        scripts: what the next jobs do, in order; then the default again and again.
        peer: this node.
    """

    def __init__(self, directory: Path, scripts: Sequence[Script], peer: PeerId) -> None:
        self.directory = directory
        self.scripts = list(scripts)
        self.peer = peer
        self.preferences = Preferences()
        self.specs: dict[RequestId, jobs.SubmitParams] = {}
        self.feeds: dict[RequestId, Feed[jobs.AnyJobUpdate]] = {}
        self.views: dict[RequestId, jobs.JobView] = {}
        self.results: dict[RequestId, jobs.JobResults] = {}
        self.cancelled: list[str] = []
        self.deaf = False
        """Cancelling never gets an answer."""

    # -------------------------------------------------------------------------------------------------------------- job.*

    async def job_submit(self, params: jobs.SubmitParams) -> jobs.Submitted:
        for digest, source in params.spec.sources.items():
            if not Path(source).is_file():  # noqa: ASYNC240 - a test's own small file
                raise UserError("not_found", f"the content of {digest} is not at {source} any more")
        number = len(self.specs) + 1
        job = request_id(number.to_bytes(16, "big"))
        self.specs[job] = params
        self.feeds[job] = Feed()
        self._play(job, self.scripts.pop(0) if self.scripts else Script())
        return jobs.Submitted(job)

    async def count_updates_anew(self) -> None:
        """Tells every job's updates again, under greater ids: see `dms.node.feeds`."""
        for job in self.feeds:
            told = [item async for item in self._kept(job)]
            base, self.feeds[job] = self.feeds[job].last, Feed()
            for item in told:
                self.feeds[job].publish(msgspec.structs.replace(item, id=item.id + base))
            if self.views[job].summary.ended_at:
                self.feeds[job].close()

    def _play(self, job: RequestId, script: Script) -> None:
        feed, count = self.feeds[job], self.specs[job].spec.count
        self.views[job] = self._view(job, jobs.JobPhase.ASKING, ())
        feed.publish(jobs.JobProgress(1, NOW, jobs.JobPhase.ASKING, "asking 3 nodes"))
        if script.waits:
            self.views[job] = self._view(job, jobs.JobPhase.WAITING, ())
            feed.publish(jobs.JobProgress(2, NOW, jobs.JobPhase.WAITING, script.waits))
            return
        if not script.runs:
            self._end(job, script.reason, "no known node would bid", ())
            return
        self.views[job] = self._view(job, jobs.JobPhase.RUNNING, ())
        for slot in range(count):
            feed.publish(jobs.SlotProgress(feed.last + 1, NOW, slot, 1, ALPHA, Phase.RUNNING))
        offsets: dict[tuple[int, str], int] = {}
        for slot, stream, data in script.logs:
            offset = offsets.get((slot, stream), 0)
            feed.publish(jobs.JobLog(feed.last + 1, NOW, slot, 1, stream, offset, data))
            offsets[slot, stream] = offset + len(data)
        if script.holds:
            return
        endings = tuple(script.endings[min(slot, len(script.endings) - 1)] for slot in range(count))
        self._leave_files(job, script, endings)
        worst = next((ending for ending in endings if ending.reason is not EndReason.COMPLETED), endings[0])
        self._end(job, worst.reason, worst.detail, endings)

    def _leave_files(self, job: RequestId, script: Script, endings: tuple[Ending, ...]) -> None:
        files = []
        for path, content in script.files.items():
            digest = digest_of(content)
            blob = self.directory / digest.replace(":", "-")
            blob.write_bytes(content)
            files.append(jobs.ResultFile(path, digest, len(content), str(blob)))
        slots = tuple(jobs.SlotResults(index, ending, tuple(files)) for index, ending in enumerate(endings))
        self.results[job] = jobs.JobResults(job, True, slots)

    def _end(self, job: RequestId, reason: EndReason, detail: str, endings: tuple[Ending, ...]) -> None:
        view = self._view(job, jobs.JobPhase.ENDED, endings)
        summary = msgspec.structs.replace(
            view.summary, ended_at=NOW + 1500, reason=reason, owner=OWNERS[reason], detail=detail
        )
        self.views[job] = msgspec.structs.replace(view, summary=summary)
        feed = self.feeds[job]
        feed.publish(jobs.JobEnded(feed.last + 1, NOW + 1500, self.views[job]))
        feed.close()

    def _view(self, job: RequestId, phase: jobs.JobPhase, endings: tuple[Ending, ...]) -> jobs.JobView:
        spec = self.specs[job].spec
        bid = bid_id(job, ALPHA, 0)
        slots = tuple(
            jobs.SlotView(
                index,
                "done",
                (
                    jobs.Attempt(
                        1,
                        ALPHA,
                        allocation_id(bid, index),
                        Phase.ENDED,
                        NOW,
                        NOW + 1500,
                        ending,
                        Usage(1500, 900_000),
                        1200,
                    ),
                ),
                ending,
            )
            for index, ending in enumerate(endings)
        )
        running = spec.count if phase is jobs.JobPhase.RUNNING else 0
        price = 1200 * len(endings)
        summary = jobs.JobSummary(job, spec.name, phase, spec.count, running, len(endings), NOW, price=price)
        return jobs.JobView(summary, spec, slots, 1, 2, 1)

    def _job(self, given: str) -> RequestId:
        return RequestId(match_id(given, self.views, "job"))

    async def job_list(self, params: jobs.JobListParams) -> jobs.JobList:
        found = [
            view.summary for view in reversed(self.views.values()) if not (params.active and view.summary.ended_at)
        ]
        return jobs.JobList(tuple(found[: params.limit]), len(found))

    async def job_show(self, params: jobs.JobParams) -> jobs.JobView:
        return self.views[self._job(params.job_id)]

    async def job_explain(self, params: jobs.JobParams) -> Explanation:
        job = self._job(params.job_id)
        return self._explain(job, self.specs[job])

    async def job_decision(self, params: jobs.DecisionParams) -> jobs.DecisionView:
        job = self._job(params.job_id)
        request = self._request(job, self.specs[job])
        candidates = tuple(
            Candidate(bid_id(job, peer, 0), peer, OFFER, Price(), price, rtt_us=rtt)
            for peer, price, rtt in ((ALPHA, 1200, 800), (BETA, 1500, 20_000))
        )
        preferences = self.specs[job].spec.preferences_over(self.preferences)
        ranking = rank(request, candidates, preferences)
        decision = Decision(request, candidates, preferences, ranking)
        return jobs.DecisionView(job, 1, 1, NOW, decision, (ranking.ranked[0].provider,), True)

    async def job_cancel(self, params: jobs.JobParams) -> allocations.CancelResult:
        job = self._job(params.job_id)
        if self.deaf:
            await asyncio.Event().wait()
        if self.views[job].summary.ended_at:
            return allocations.CancelResult(job, cancelled=False, already_over=True)
        self.cancelled.append(job)
        self._end(job, EndReason.CANCELLED, "cancelled by its owner", (Ending(EndReason.CANCELLED, 143),))
        return allocations.CancelResult(job, cancelled=True)

    async def job_logs(self, params: jobs.JobLogParams) -> allocations.LogPart:
        job = self._job(params.job_id)
        data = b"".join(
            [
                item.data
                async for item in self._kept(job)
                if isinstance(item, jobs.JobLog) and (item.slot, item.stream) == (params.slot, params.stream)
            ]
        )
        part = data[params.offset : params.offset + params.limit]
        return allocations.LogPart(
            part, params.offset, params.offset + len(part), bool(self.views[job].summary.ended_at), attempt=1
        )

    async def _kept(self, job: RequestId) -> AsyncIterator[jobs.AnyJobUpdate]:
        last = self.feeds[job].last
        async for item in self.feeds[job].follow():
            yield item
            if item.id == last:
                return

    async def job_results(self, params: jobs.JobParams) -> jobs.JobResults:
        job = self._job(params.job_id)
        return self.results.get(job, jobs.JobResults(job, False, ()))

    async def job_wait(self, params: jobs.WaitParams) -> jobs.JobView:
        job = self._job(params.job_id)
        try:
            async with asyncio.timeout(params.timeout_ms / 1000):
                async for _ in self.feeds[job].follow():
                    pass
        except TimeoutError:
            pass
        return self.views[job]

    async def watch_job(self, params: jobs.WatchJobParams) -> AsyncIterator[jobs.AnyJobUpdate]:
        async for item in self.feeds[self._job(params.job_id)].follow(params.since):
            if params.logs or not isinstance(item, jobs.JobLog):
                yield item

    # ------------------------------------------------------------------------------------------------------------ alloc.*

    def _allocations(self) -> list[allocations.AllocationView]:
        return [
            allocations.AllocationView(
                attempt.allocation_id,
                job,
                bid_id(job, ALPHA, 0),
                slot.index,
                allocations.Side.REQUESTER,
                ALPHA,
                self.peer,
                attempt.phase,
                view.spec.task,
                attempt.started_at,
                attempt.ended_at,
                attempt.usage,
                attempt.price,
                attempt.ending,
                OWNERS[attempt.ending.reason] if attempt.ending else None,
            )
            for job, view in self.views.items()
            for slot in view.slots
            for attempt in slot.attempts
        ]

    async def alloc_list(self, params: allocations.AllocationListParams) -> allocations.AllocationList:
        found = [view for view in self._allocations() if params.side in (allocations.Side.BOTH, view.side)]
        found = [view for view in found if not (params.active and view.ending)]
        return allocations.AllocationList(tuple(found[: params.limit]), len(found))

    async def alloc_show(self, params: allocations.AllocationParams) -> allocations.AllocationView:
        views = {view.allocation_id: view for view in self._allocations()}
        return views[match_id(params.allocation_id, views, "allocation")]  # type: ignore[index] # match_id gives one of the keys

    async def alloc_logs(self, params: allocations.AllocationLogParams) -> allocations.LogPart:
        view = await self.alloc_show(allocations.AllocationParams(params.allocation_id))
        wanted = jobs.JobLogParams(view.request_id, view.slot, 0, params.stream, params.offset, params.limit)
        return await self.job_logs(wanted)

    async def alloc_read(self, params: allocations.AllocationReadParams) -> allocations.LogPart:
        wanted = allocations.AllocationLogParams(params.allocation_id, params.stream, params.offset)
        return await self.alloc_logs(wanted)

    async def alloc_resize(self, params: allocations.ResizeParams) -> allocations.ResizeResult:
        view = await self.alloc_show(allocations.AllocationParams(params.allocation_id))
        raise UserError("resize_refused", f"{view.allocation_id} keeps its size: it does not run")

    async def alloc_cancel(self, params: allocations.AllocationParams) -> allocations.CancelResult:
        view = await self.alloc_show(params)
        return allocations.CancelResult(view.allocation_id, cancelled=False, already_over=True)

    # ----------------------------------------------------------------------------------------- market.* bids.* requests.*

    def _request(self, job: RequestId, submitted: jobs.SubmitParams | market.AskParams) -> BidRequest:
        spec = submitted.spec
        return BidRequest(job, 0, spec.needs, spec.count, spec.bids_wanted or 3, 2**32, spec.max_price, 250)

    def _explain(self, job: RequestId, submitted: jobs.SubmitParams | market.AskParams) -> Explanation:
        request = self._request(job, submitted)
        verdicts: tuple[NodeVerdict, ...] = (
            NodeVerdict(BETA, Outcome.DECLINED, (Clause("memory", "12 GiB", "8 GiB free of 16 GiB", "memory 8 GiB"),)),
            NodeVerdict(GAMMA, Outcome.SILENT, detail="last heard of 4 s ago, by relay"),
        )
        if request.needs.resources.memory_bytes <= 2 * OFFER.resources.memory_bytes:
            verdicts = (NodeVerdict(ALPHA, Outcome.BID, price=1200), *verdicts)
        return explain(request, verdicts)

    async def market_ask(self, params: market.AskParams) -> Explanation:
        return self._explain(request_id(bytes(16)), params)

    async def bids_list(self, params: market.BidListParams) -> market.BidList:
        bids = [
            market.BidView(
                BidId(bid_id(job, ALPHA, 0)),
                job,
                market.Direction.RECEIVED,
                ALPHA,
                self.peer,
                1,
                1200,
                OFFER.price,
                OFFER,
                NOW,
                NOW + 10_000,
                market.BidState.COMMITTED,
            )
            for job in self.views
            if job.startswith(params.request_id) and params.direction is not market.Direction.SENT
        ]
        return market.BidList(tuple(bids[: params.limit]), len(bids))

    async def price_suggest(self, params: market.PriceSuggestParams) -> market.PriceSuggestion:
        heard = [Asked(1_000, most, Fate.TOO_DEAR if most < 1_000 else Fate.WON) for most in range(500, 1_300, 100)]
        history = suggest(heard)
        return market.PriceSuggestion(NOW - params.days * DAY, OFFER.price, OFFER.price.scaled(history.factor), history)

    async def requests_list(self, params: market.RequestListParams) -> market.RequestList:
        sent = [
            market.RequestView(
                job,
                market.Direction.SENT,
                self.peer,
                NOW,
                0,
                view.spec.needs,
                view.spec.count,
                view.spec.max_price,
            )
            for job, view in self.views.items()
        ]
        return market.RequestList(tuple(sent[: params.limit]), len(sent))
