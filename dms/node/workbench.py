"""The provider's hands: fetches inputs, runs tasks, forwards logs, stores outputs. Implements `dms_actors.world.Workbench`.

Everything happens on the loop, in one task per step and allocation; what comes of it is told to the allocation's actor.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from dms.executors import job_directory
from dms.executors.outputs import collect_into, copied
from dms.node.datasets import Datasets
from dms.node.hands import Hands
from dms.node.holders import Seeker
from dms.node.holdings import Holdings
from dms.node.inputs import Sources, fetch_missing, lay_out
from dms.node.logs import STREAMS, LogStore
from dms.node.post import NodePost
from dms.node.reaching import Reaching
from dms.node.sealing import Sealer
from dms.store.blobs import BlobStore
from dms_actors.loop_calls import LoopCalls
from dms_actors.ports import EgressRefused, Executor, Exited, LogChunk, Network, Preparing, Run, Started, UsageSample
from dms_proto.allocation.freezing import FreezeFailed
from dms_proto.allocation.resizing import SizeSet
from dms_proto.allocation.stimuli import (
    InputsArrived,
    NodeRestarted,
    OutputsStored,
    RunBarred,
    RunExited,
    RunStarted,
    RunUsed,
)
from dms_proto.data.chunks import LISTED_FROM
from dms_proto.data.marks import large_reads
from dms_proto.data.readers import Readers
from dms_proto.errors import DmsError, PeerError, UserError
from dms_proto.ids import AllocationId, Digest, PeerId, RequestId
from dms_proto.machine import Stimulus
from dms_proto.messages import AllocationMessage, Holders, Serve
from dms_proto.messages.kinds import DOING
from dms_proto.tunnels import Target
from dms_proto.work import Ending, EndReason, Output, Task

log = logging.getLogger(__name__)

Tell = Callable[[AllocationId, Stimulus], None]
LOG_FRAME: Final = 64 * 1024
"""Bytes of log in one message."""
REACH_S: Final = 5.0
"""Seconds after which the requester is told again how far a log has got: it cannot miss a last piece for long."""


class Workbench:
    """One per node."""

    def __init__(
        self,
        *,
        calls: LoopCalls,
        executors: Mapping[str, Executor],
        jobs: Path,
        blobs: BlobStore,
        datasets: Datasets,
        holdings: Holdings,
        logs: LogStore,
        me: PeerId,
        network: Network,
        reaching: Reaching,
        post: NodePost,
        sealer: Sealer,
        tell: Tell,
    ) -> None:
        self._hands = Hands(calls)
        self._executors = executors
        self.jobs = jobs
        self._blobs = blobs
        self._datasets = datasets
        self._holdings = holdings
        self.logs = logs
        self._network = network
        self._post = post
        self._seeker = Seeker(me, network, reaching, post)
        self._readers = Readers()
        self._sealer = sealer
        self._tell = tell
        self._runs: dict[AllocationId, Run] = {}
        self._starting: set[AllocationId] = set()
        self._idle = asyncio.Event()
        self._stops: dict[AllocationId, int] = {}
        self._offered: dict[AllocationId, tuple[PeerId, frozenset[Digest]]] = {}
        self._requesters: dict[AllocationId, tuple[RequestId, PeerId]] = {}

    # -------------------------------------------------------------------------------------------------- Workbench, any thread

    def fetch_inputs(self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task) -> None:
        """See `world.Workbench`."""
        self._hands.start(lambda: self._prepare(allocation_id, request_id, requester, task), f"inputs {allocation_id}")

    def execute(
        self,
        allocation_id: AllocationId,
        request_id: RequestId,
        requester: PeerId,
        task: Task,
        *,
        gives_way: bool,
    ) -> None:
        """See `world.Workbench`."""
        self._hands.start(
            lambda: self._execute(allocation_id, request_id, requester, task, gives_way=gives_way),
            f"run {allocation_id}",
        )

    def adopt(
        self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task, handle: str
    ) -> None:
        """See `world.Workbench`."""
        self._hands.start(
            lambda: self._adopt(allocation_id, request_id, requester, task, handle), f"adopt {allocation_id}"
        )

    def stop(self, allocation_id: AllocationId, grace_ms: int) -> None:
        """See `world.Workbench`."""
        self._hands.start(lambda: self._stop(allocation_id, grace_ms), f"stop {allocation_id}")

    def freeze(self, allocation_id: AllocationId, until: int) -> None:
        """See `world.Workbench`."""
        self._hands.start(lambda: self._freeze(allocation_id, until), f"freeze {allocation_id}")

    def thaw(self, allocation_id: AllocationId) -> None:
        """See `world.Workbench`."""
        self._hands.start(lambda: self._thaw(allocation_id), f"thaw {allocation_id}")

    def resize(self, allocation_id: AllocationId, number: int, task: Task) -> None:
        """See `world.Workbench`."""
        self._hands.start(lambda: self._resize(allocation_id, number, task), f"resize {allocation_id}")

    def store_outputs(self, allocation_id: AllocationId, requester: PeerId, task: Task | None) -> None:
        """See `world.Workbench`."""
        self._hands.start(lambda: self._store(allocation_id, requester, task), f"outputs {allocation_id}")

    def offer_outputs(self, allocation_id: AllocationId, requester: PeerId, outputs: tuple[Output, ...]) -> None:
        """See `world.Workbench`."""
        self._hands.call(self._offer, allocation_id, requester, outputs)

    def close(self, allocation_id: AllocationId) -> None:
        """See `world.Workbench`."""
        self._hands.start(lambda: self._close(allocation_id), f"close {allocation_id}")

    # ------------------------------------------------------------------------------------------------------------- on the loop

    def may_read(self, peer: PeerId, digest: Digest) -> bool:
        """Whether a blob is an output of an allocation that ran for this peer, or was brought by a requester that lets it read that."""
        offered = any(requester == peer and digest in digests for requester, digests in self._offered.values())
        return offered or self._readers.may_read(peer, digest, self._datasets.files_of)

    def brought(self, requester: PeerId, task: Task) -> None:
        """What a requester's task reads is here, or was."""
        self._readers.brought(requester, task)

    def serve(self, requester: PeerId, message: Serve) -> None:
        """Lets a node read what its requester brought here."""
        self._readers.serve(requester, message)

    def holders_told(self, requester: PeerId, message: Holders) -> None:
        """Takes the answer to who else has what an allocation reads."""
        self._seeker.heard(requester, message)

    def resend_logs(self, peer: PeerId, message: AllocationMessage) -> None:
        """Answers the requester's question for log bytes it has missed."""
        request = self._requesters.get(message.allocation_id)
        stream = message.stream
        if request is None or request[1] != peer or stream not in STREAMS:
            return
        offset = message.offset
        while data := self.logs.read(message.allocation_id, stream, offset, LOG_FRAME):
            if not self._post.send_now(
                peer, AllocationMessage(request[0], message.allocation_id, stream, offset, data)
            ):
                return  # its queue is full: it will ask again from there
            offset += len(data)

    def is_running(self, allocation_id: AllocationId) -> bool:
        """Whether something of an allocation runs here now."""
        return allocation_id in self._runs

    async def connect(self, allocation_id: AllocationId, target: Target) -> socket.socket:
        """See `Run.connect`.

        Raises:
            UserError: `not_running` besides.
        """
        run = self._runs.get(allocation_id)
        if run is None:
            raise UserError("not_running", f"{allocation_id} does not run any more")
        return await run.connect(target)

    def directory(self, allocation_id: AllocationId) -> Path:
        """Where the job of an allocation works."""
        return self.jobs / allocation_id

    async def until_idle(self, seconds: float) -> None:
        """Returns when nothing runs here any more, or after `seconds`."""
        idle = self._idle
        if self._runs:
            idle.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await idle.wait()

    async def sweep(self, keep: Sequence[str]) -> None:
        """After a restart: removes what is left of allocations of which nothing is known any more: processes, directories, logs."""
        for executor in self._executors.values():
            await executor.sweep(keep)
        await asyncio.to_thread(_remove_others, self.jobs, frozenset(keep))
        self.logs.sweep(keep)

    async def close_all(self) -> None:
        """Lets go of everything under way; runs go on and are adopted by the next process."""
        await self._hands.close()
        self.logs.close()

    async def _prepare(self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task) -> None:
        self._tell(allocation_id, await self._prepared(allocation_id, request_id, requester, task))

    async def _prepared(
        self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task
    ) -> InputsArrived:
        came: Counter[PeerId] = Counter()
        directory = self.directory(allocation_id)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            if task.inputs or task.datasets:
                others = await self._others(allocation_id, request_id, requester, task)
                sources = Sources(requester, others, self._network, self._blobs, self._datasets, came)
                say = partial(self._say_doing, allocation_id, request_id, requester)
                inputs = await fetch_missing(task, sources, say)
                self._holdings.note(task)
                self.brought(requester, task)
                await asyncio.to_thread(lay_out, inputs, directory, self._blobs)
        except PeerError as error:
            return InputsArrived(error.message)
        except DmsError as error:
            return InputsArrived(error.message, ours=True)
        except OSError as error:
            return InputsArrived(_no_directory(error), ours=True)
        return InputsArrived(fetched=tuple(sorted(came.items())))

    async def _others(
        self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task
    ) -> tuple[PeerId, ...]:
        """Who beside the requester may have what the task reads; not asked for where little is to be fetched."""
        missing = await asyncio.to_thread(self._holdings.missing, task) if large_reads(task) else 0
        return await self._seeker.others(allocation_id, request_id, requester) if missing > LISTED_FROM else ()

    def _say_doing(self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, line: str) -> None:
        log.info("%s is not started yet: %s", allocation_id, line)
        self._post.send_now(requester, AllocationMessage(request_id, allocation_id, DOING, 0, line.encode()))

    async def _execute(
        self,
        allocation_id: AllocationId,
        request_id: RequestId,
        requester: PeerId,
        task: Task,
        *,
        gives_way: bool,
    ) -> None:
        executor = self._executors.get(task.executor)
        if executor is None:
            ending = Ending(EndReason.PROVIDER_FAULT, detail=f"no executor {task.executor!r} here")
            self._tell(allocation_id, RunExited(ending))
            return
        self._requesters[allocation_id] = (request_id, requester)
        directory = self.directory(allocation_id)
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._tell(allocation_id, RunExited(Ending(EndReason.PROVIDER_FAULT, detail=_no_directory(error))))
            return
        self._starting.add(allocation_id)
        try:
            opened = partial(self._sealer.open, task, requester, allocation_id)  # no name may keep what it gives
            run = await executor.run(allocation_id, task, directory, opened(), gives_way=gives_way)
        except UserError as error:
            self._tell(allocation_id, RunExited(Ending(EndReason.BAD_PROGRAM, detail=error.message)))
            return
        finally:
            self._starting.discard(allocation_id)
        await self._watch(allocation_id, request_id, requester, run)

    async def _adopt(
        self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, task: Task, handle: str
    ) -> None:
        if allocation_id in self._runs or allocation_id in self._starting:  # only its actor is new
            self._tell(allocation_id, NodeRestarted(adopted=True))
            return
        self._requesters[allocation_id] = (request_id, requester)
        executor = self._executors.get(task.executor)
        run = None
        if executor is not None:
            opened = partial(self._sealer.open, task, requester, allocation_id)
            run = await executor.adopt(allocation_id, task, self.directory(allocation_id), handle, opened)
        self._tell(allocation_id, NodeRestarted(adopted=run is not None))
        if run is not None:
            await self._watch(allocation_id, request_id, requester, run)

    async def _watch(self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, run: Run) -> None:
        self._runs[allocation_id] = run
        if allocation_id in self._stops:
            await run.stop(self._stops.pop(allocation_id))
        reach_at = asyncio.get_running_loop().time() + REACH_S
        try:
            async for event in run.events():
                match event:
                    case Preparing(detail=detail):
                        self._say_doing(allocation_id, request_id, requester, detail)
                    case Started() | EgressRefused():
                        self._tell(allocation_id, _as_stimulus(event))
                    case LogChunk():
                        self._log(allocation_id, request_id, requester, event)
                    case UsageSample(usage=usage):
                        self._tell(allocation_id, RunUsed(usage))
                        if (now := asyncio.get_running_loop().time()) >= reach_at:
                            reach_at = now + REACH_S
                            self._tell_reach(allocation_id, request_id, requester)
                    case Exited(ending=ending):
                        self._tell(allocation_id, RunExited(ending, await self.logs.logs(allocation_id)))
        finally:
            self._runs.pop(allocation_id, None)
            self._stops.pop(allocation_id, None)
            if not self._runs:
                self._idle.set()

    def _log(self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId, chunk: LogChunk) -> None:
        known = self.logs.length(allocation_id, chunk.stream)
        try:
            self.logs.append(allocation_id, chunk.stream, chunk.offset, chunk.data)
        except OSError as error:
            log.error("log of %s could not be kept: %s", allocation_id, error)
        if chunk.offset + len(chunk.data) <= known:
            return  # read again after an adoption
        for start in range(0, len(chunk.data), LOG_FRAME):
            part = chunk.data[start : start + LOG_FRAME]
            message = AllocationMessage(request_id, allocation_id, chunk.stream, chunk.offset + start, part)
            self._post.send_now(requester, message)

    def _tell_reach(self, allocation_id: AllocationId, request_id: RequestId, requester: PeerId) -> None:
        for stream, length in zip(STREAMS, self.logs.lengths(allocation_id), strict=True):
            if length:
                self._post.send_now(requester, AllocationMessage(request_id, allocation_id, stream, length))

    async def _stop(self, allocation_id: AllocationId, grace_ms: int) -> None:
        run = self._runs.get(allocation_id)
        if run is not None:
            await run.stop(grace_ms)
        else:
            self._stops[allocation_id] = grace_ms  # it is about to start

    async def _freeze(self, allocation_id: AllocationId, until: int) -> None:
        run = self._runs.get(allocation_id)
        if run is None:
            return  # it is over
        try:
            await run.freeze(until)
        except DmsError as error:
            log.warning("%s gives way, and %s", allocation_id, error.message)
            self._tell(allocation_id, FreezeFailed(error.message))

    async def _thaw(self, allocation_id: AllocationId) -> None:
        run = self._runs.get(allocation_id)
        if run is not None:
            await run.thaw()

    async def _resize(self, allocation_id: AllocationId, number: int, task: Task) -> None:
        run = self._runs.get(allocation_id)
        failed = "" if run is not None else "its program does not run"
        try:
            if run is not None:
                await run.resize(task.resources)
        except DmsError as error:
            failed = error.message
        self._tell(allocation_id, SizeSet(number, failed))

    async def _store(self, allocation_id: AllocationId, requester: PeerId, task: Task | None) -> None:
        self._stops.pop(allocation_id, None)
        outputs: tuple[Output, ...] = ()
        failed, ours = "", False
        if task is not None and task.outputs:
            directory = self.directory(allocation_id)
            try:
                outputs = tuple(await asyncio.to_thread(self._take_in, directory, task.outputs))
            except UserError as error:
                failed = error.message
            except DmsError as error:
                failed, ours = f"outputs could not be stored: {error.message}", True
            except OSError as error:
                failed, ours = f"outputs could not be stored: {error.strerror or error}", True
        self._offer(allocation_id, requester, outputs)
        self._tell(allocation_id, OutputsStored(outputs, await self.logs.logs(allocation_id), failed, ours))

    def _take_in(self, directory: Path, patterns: tuple[str, ...]) -> list[Output]:
        taken = directory.with_name(directory.name + ".outputs")
        outputs = collect_into(directory, patterns, taken)
        for digest in {digest for output in outputs for digest in output.blobs}:  # two may have the same content
            self._blobs.adopt(copied(taken, digest), digest)
        shutil.rmtree(taken, ignore_errors=True)
        return outputs

    def _offer(self, allocation_id: AllocationId, requester: PeerId, outputs: tuple[Output, ...]) -> None:
        if outputs:
            self._offered[allocation_id] = (
                requester,
                frozenset(digest for output in outputs for digest in output.blobs),
            )

    async def _close(self, allocation_id: AllocationId) -> None:
        self._stops.pop(allocation_id, None)
        self._offered.pop(allocation_id, None)
        self._requesters.pop(allocation_id, None)
        self.logs.remove(allocation_id)
        directory = self.directory(allocation_id)
        try:
            directory.rmdir()  # most jobs leave nothing, and a thread for it costs more than the call
        except FileNotFoundError:
            pass
        except OSError:
            await asyncio.to_thread(job_directory.remove, directory)


def _as_stimulus(event: Started | EgressRefused) -> Stimulus:
    return RunStarted(event.handle) if isinstance(event, Started) else RunBarred(event.barred)


def _no_directory(error: OSError) -> str:
    return f"the job's directory could not be made: {error.strerror or error}"


def _remove_others(jobs: Path, keep: frozenset[str]) -> None:
    """Removes the directories of jobs, and of outputs being taken in, that belong to none of `keep`."""
    if jobs.is_dir():
        for directory in jobs.iterdir():
            if directory.name.partition(".")[0] not in keep:
                job_directory.remove(directory)
