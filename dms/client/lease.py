"""A job whose allocations are workers, from asking for it to letting it go. The market does the rest: it finds nodes, and others when one is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from dms.client.held import HeldWorker, Unfit
from dms.jobs.spec import JobSpec
from dms.rpc.api.jobs import (
    JobEnded,
    JobParams,
    JobView,
    SlotProgress,
    SubmitParams,
    Submitted,
    WatchJobParams,
    read_update,
)
from dms.rpc.api.tunnels import TunnelParams
from dms.rpc.async_client import AsyncClient, open_tunnel
from dms_proto.errors import DmsError
from dms_proto.ids import PeerId, short
from dms_proto.market.explain import Explanation
from dms_proto.messages import Phase
from dms_proto.tunnels import FINAL, ToCalls, write_target
from dms_proto.work import PYTHON

OPEN_S: Final = 30.0
"""Seconds in which a running worker has to be reached."""
AGAIN_S: Final = 0.05
"""Between two tries."""
WHY_S: Final = 3.0
"""Seconds in which it is told how a worker ended whose tunnel has broken."""
GOODBYE_S: Final = 3.0
"""Seconds for workers to end by themselves, before the job is cancelled."""
CANCEL_S: Final = 10.0
MOST_TOLD: Final = 3
"""Reasons, and suggestions, in an error."""


class Taker(Protocol):
    """Who takes workers."""

    def take(self, worker: HeldWorker) -> None:
        """A worker can be given calls."""
        ...

    def lose(self, worker: HeldWorker, why: str) -> None:
        """It is gone; what it was given and has not answered is `under_way`."""
        ...

    def may_take(self) -> None:
        """It may be given more."""
        ...


class Stage(NamedTuple):
    """Where a slot is: number of the try, its phase, how it ended in words, and the node."""

    attempt: int
    phase: Phase
    ending: str
    provider: PeerId


class Lease:
    """Lives on the loop of its executor.

    Attributes:
        size: workers asked for.
        job_id: empty before the market was asked.
        was_served: whether a worker of it could be called.
    """

    def __init__(self, path: Path, spec: JobSpec, taker: Taker, on_over: Callable[[Lease, str], None]) -> None:
        """`on_over` is called once, with why it is over."""
        self.size = spec.count
        self.job_id = ""
        self.was_served = False
        self._unfit: dict[int, tuple[int, str]] = {}
        self._path = path
        self._spec = spec
        self._taker = taker
        self._on_over = on_over
        self._stages: dict[int, Stage] = {}
        self._news = asyncio.Event()
        self._holding: dict[int, asyncio.Task[None]] = {}
        self._workers: set[HeldWorker] = set()
        self._is_leaving = False
        self._is_over = False
        self._task = asyncio.get_running_loop().create_task(self._run(), name="lease")

    def leave(self) -> None:
        """Lets the workers go. Idempotent."""
        if not self._is_leaving:
            self._is_leaving = True
            self._news.set()

    async def _run(self) -> None:
        why = ""
        try:
            async with await AsyncClient.connect(self._path) as node:
                why = await self._held(node)
        except DmsError as error:
            why = str(error)
        finally:
            self._is_over = True
            holding = list(self._holding.values())
            for task in holding:
                task.cancel()
            await asyncio.gather(*holding, return_exceptions=True)
            self._on_over(self, why)

    async def _held(self, node: AsyncClient) -> str:
        self.job_id = (await node.call("job.submit", SubmitParams(self._spec), Submitted)).job_id
        following = asyncio.create_task(self._follow(node))
        try:
            await self._until(lambda: self._is_leaving or following.done(), None)
            if not following.done():
                await self._let_go(node, following)
            view = following.result() if following.done() else None
        finally:
            following.cancel()
            await asyncio.wait([following])
        return await self._why_ended(node, view)

    async def _follow(self, node: AsyncClient) -> JobView:
        try:
            async for item in node.follow("job", WatchJobParams(self.job_id, logs=False)):
                match read_update(item):
                    case SlotProgress(slot=slot) as progress:
                        self._note(slot, progress)
                    case JobEnded(job=view):
                        return view
            raise AssertionError("a feed ends with the end, or raises")
        finally:
            self._news.set()

    def _note(self, slot: int, progress: SlotProgress) -> None:
        ending = progress.ending
        words = "" if ending is None else ": ".join(filter(None, (ending.reason.value, ending.detail)))
        self._stages[slot] = Stage(progress.attempt, progress.phase, words, progress.provider)
        self._news.set()
        self._start_holding(slot)

    def _start_holding(self, slot: int) -> None:
        """Holds the worker of a slot, unless that is done already, or is of no use."""
        stage = self._stages[slot]
        is_unfit = self._unfit.get(slot, (0, ""))[0] == stage.attempt
        if stage.phase is not Phase.RUNNING or slot in self._holding or is_unfit or self._is_leaving or self._is_over:
            return
        task = self._holding[slot] = asyncio.get_running_loop().create_task(self._hold(slot))
        task.add_done_callback(lambda _task: self._released(slot))

    def _released(self, slot: int) -> None:
        """Nobody holds the slot now. A next try of it may run by then; where nobody else can be hoped for, the rest is let go."""
        self._holding.pop(slot, None)
        self._start_holding(slot)
        stages = self._stages.items()
        lost = sum(s.phase is Phase.ENDED or self._unfit.get(slot, (0, ""))[0] == s.attempt for slot, s in stages)
        if self._unfit and lost == self.size:
            self.leave()

    async def _hold(self, slot: int) -> None:
        """Reaches the worker of a slot, and has it called until it is lost."""
        stage = self._stages[slot]
        worker = await self._reached(slot, stage)
        if worker is None:
            return
        if self._is_leaving:
            worker.abort()
            return
        self.was_served = True
        self._workers.add(worker)
        self._taker.take(worker)
        why = ""
        try:
            why = await worker.follow()
            if why:
                self._give_up(slot, stage, why)
            elif not self._is_leaving:
                await self._until(lambda: self._stages[slot] != stage or self._is_over, WHY_S)
        finally:
            self._workers.discard(worker)
            self._taker.lose(worker, why or self._how_lost(slot, stage))

    def _give_up(self, slot: int, stage: Stage, why: str) -> None:
        self._unfit[slot] = stage.attempt, f"the worker on {short(stage.provider)} is of no use: {why}"

    async def _reached(self, slot: int, stage: Stage) -> HeldWorker | None:
        deadline = asyncio.get_running_loop().time() + OPEN_S
        params = TunnelParams(self.job_id, write_target(ToCalls()), slot)
        while self._stages[slot] == stage and not self._is_leaving:
            try:
                tunnel = await open_tunnel(self._path, params)
            except DmsError as error:
                is_final = error.code in FINAL and not error.retryable
                if is_final or asyncio.get_running_loop().time() > deadline:
                    self._give_up(slot, stage, f"it cannot be reached: {error}")
                    return None
                await asyncio.sleep(AGAIN_S)
                continue
            worker = HeldWorker(tunnel, self._taker.may_take)
            try:
                await worker.greet()
            except Unfit as unfit:
                self._give_up(slot, stage, str(unfit))
                worker.abort()
                return None
            except BaseException:
                worker.abort()
                raise
            return worker
        return None

    def _how_lost(self, slot: int, stage: Stage) -> str:
        """How the worker of a slot was lost, as far as that is known here; its tunnel breaks first."""
        if self._is_leaving:
            return "the executor was stopped"
        now = self._stages[slot]
        if now.ending and now.attempt == stage.attempt:
            return f"the worker on {short(stage.provider)} has ended: {now.ending}"
        return f"the way to the worker on {short(stage.provider)} was cut"

    async def _let_go(self, node: AsyncClient, following: asyncio.Task[JobView]) -> None:
        workers = list(self._workers)
        for worker in workers:
            if worker.under_way:
                worker.abort()
            else:
                worker.say_goodbye()
        done = sum(stage.phase is Phase.ENDED for stage in self._stages.values())
        if len(workers) + done == self.size and not any(worker.under_way for worker in workers):
            await asyncio.wait([following], timeout=GOODBYE_S)
        if not following.done():
            with suppress(DmsError):
                await node.call("job.cancel", JobParams(self.job_id))
            await asyncio.wait([following], timeout=CANCEL_S)

    async def _why_ended(self, node: AsyncClient, view: JobView | None) -> str:
        """Why there are no workers of this job, with what would change it."""
        if self._unfit and not self.was_served:
            return next(iter(self._unfit.values()))[1]
        if self.was_served or self._is_leaving or view is None:
            return ""
        summary, words = view.summary, list[str]()
        words.append(": ".join(filter(None, (summary.reason.value if summary.reason else "", summary.detail))))
        with suppress(DmsError):
            found = await node.call("job.explain", JobParams(self.job_id), Explanation)
            words += standing_in_the_way(found)
            words += [f"what would help: {each}" for each in found.suggestions[:MOST_TOLD]]
        return "; ".join(filter(None, words))

    async def _until(self, condition: Callable[[], bool], seconds: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()


def standing_in_the_way(found: Explanation) -> list[str]:
    """What nodes have said, each reason once."""
    clauses = [clause for verdict in found.verdicts for clause in verdict.clauses]
    said = list(dict.fromkeys(f"{each.dimension}: {each.wanted} is wanted, {each.observed}" for each in clauses))
    if any(clause.dimension == f"library:{PYTHON}" for clause in clauses):
        said.insert(
            0, "functions run on the minor version of Python they come from: run this program with one that is there"
        )
    return said[:MOST_TOLD]
