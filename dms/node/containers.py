"""The pool's hands: containers as runs of the executors, and those who wait for one. Implements `dms_actors.world.Containers`.

::

    HOME/pool/c-17/record      what it runs, and the handle by which the executor finds it again
    HOME/pool/c-17/work/       its directory

A container is ready when it lets a connection in. A call is one connection: it is carried by this process, so that its end is seen, which is when the
container gets its next. Everything happens on the loop; what comes of it is told to the pool.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from dms.executors import job_directory
from dms.node.dataset_jobs import files_of
from dms.node.datasets import Datasets
from dms.node.hands import Hands
from dms.node.inputs import lay_out
from dms.store.blobs import BlobStore
from dms_actors.loop_calls import LoopCalls
from dms_actors.ports import EgressRefused, Executor, Exited, LogChunk, Run, Started
from dms_actors.splice import Splice
from dms_proto.capability import Gpu, Resources
from dms_proto.errors import DmsError, UserError
from dms_proto.machine import Stimulus
from dms_proto.pool import state as pool
from dms_proto.pool.callers import call_refused
from dms_proto.pool.placement import Placement
from dms_proto.pool.records import CallId, ContainerId, Image, VirtualId
from dms_proto.pool.refusals import Refusal
from dms_proto.pool.services import Services, target_of
from dms_proto.units import format_millis
from dms_proto.work import Ending, Task, Usage

log = logging.getLogger(__name__)

FIRST_LOOK_S: Final = 0.02
LONGEST_LOOK_S: Final = 0.5
"""Between two tries whether a container lets a connection in: the first, and the longest after twice as long each time."""
GRACE_MS: Final = 2_000
TOLD: Final = 300
"""Characters of what a container wrote last that are told with its end."""
RUN: Final = "pool-"
"""Begins the name by which an executor knows the run of a container."""

Tell = Callable[[Stimulus], object]
Ask = Callable[[], Awaitable[Services]]


class Record(msgspec.Struct, frozen=True):
    """What has to be known of a container to find it again. `handle`: empty until it runs."""

    task: Task
    handle: str = ""


class _Kept:
    """A container whose process is there."""

    def __init__(self, task: Task, run: Run) -> None:
        self.task = task
        self.run = run
        self.said = b""
        self.waiting: asyncio.Task[None] | None = None
        self.over = asyncio.Event()


class PoolHands:
    """One per node.

    Args:
        calls: the way from the actors' thread to the loop.
        executors: what containers run in, by name.
        directory: where they have their files.
        blobs: of which their inputs are laid out.
        datasets: of which likewise.
        longest_ms: how long one call may take.
    """

    def __init__(  # noqa: PLR0917 - called once
        self,
        calls: LoopCalls,
        executors: Mapping[str, Executor],
        directory: Path,
        blobs: BlobStore,
        datasets: Datasets,
        longest_ms: int,
    ) -> None:
        self._hands = Hands(calls)
        self._executors = executors
        self._directory = directory
        self._blobs = blobs
        self._datasets = datasets
        self._longest_ms = longest_ms
        self._kept: dict[ContainerId, _Kept] = {}
        self._starting: set[ContainerId] = set()
        self._unwanted: set[ContainerId] = set()
        self._callers: dict[CallId, tuple[pool.Called, asyncio.Future[socket.socket]]] = {}
        self._at_work: dict[CallId, Splice] = {}
        self._tell: Tell = lambda _stimulus: None
        self._ask: Ask

    def serve(self, tell: Tell, ask: Ask) -> None:
        """Outcomes are told to the pool by `tell` from now on; `ask` gives the services."""
        self._tell, self._ask = tell, ask

    def names(self) -> tuple[str, ...]:
        """The runs that may have outlived the node, as the executors know them."""
        return tuple(RUN + container_id for container_id, record in self._records() if record.handle)

    # -------------------------------------------------------------------------------------------------- Containers, any thread

    def find(self) -> None:
        """See `world.Containers`."""
        self._hands.start(self._find, "containers")

    def start(self, container_id: ContainerId, image: Image, size: Resources) -> None:
        """See `world.Containers`. The task of a service asks for as much; of GPUs `size` names the devices."""
        self._hands.start(lambda: self._start(container_id, image, size.gpus), f"container {container_id}")

    def stop(self, container_id: ContainerId) -> None:
        """See `world.Containers`."""
        self._hands.start(lambda: self._stop(container_id), f"stop {container_id}")

    def deliver(self, call_id: CallId, container_id: ContainerId, virtual_id: VirtualId, placement: Placement) -> None:
        """See `world.Containers`. `placement` is kept with the call for the owner; who calls is not told of other containers."""
        del virtual_id, placement
        self._hands.start(lambda: self._deliver(call_id, container_id), f"call {call_id}")

    def refuse(self, call_id: CallId, refusal: Refusal) -> None:
        """See `world.Containers`."""
        self._hands.call(self._refuse, call_id, call_refused(refusal))

    def fail(self, call_id: CallId, why: str) -> None:
        """See `world.Containers`."""
        self._hands.call(self._fail, call_id, why)

    # ------------------------------------------------------------------------------------------------------------- on the loop

    async def call(self, called: pool.Called) -> socket.socket:
        """Has the pool give a call to a container; gives the connection.

        Raises:
            UserError: `call_refused`, `tab_wanted`.
        """
        call_id = called.call_id
        given: asyncio.Future[socket.socket] = asyncio.get_running_loop().create_future()
        self._callers[call_id] = (called, given)
        self._tell(called)
        try:
            return await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled() and given.exception() is None:
                given.result().close()
            self._tell(pool.CallerGone(call_id))
            raise
        finally:
            self._callers.pop(call_id, None)

    async def end_all(self, seconds: float) -> None:
        """Stops all containers, and returns when they have ended, or after so many seconds."""
        kept = tuple(self._kept.values())
        await asyncio.gather(*(each.run.stop(GRACE_MS) for each in kept))
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(each.over.wait() for each in kept))

    async def close(self) -> None:
        """Lets go of everything; containers go on and are found by the next process. Calls end with their connections."""
        await self._hands.close()
        for splice in tuple(self._at_work.values()):
            splice.abort()
        for _, given in tuple(self._callers.values()):
            given.cancel()

    async def _find(self) -> None:
        for container_id, record in list(self._records()):
            if container_id in self._kept or container_id in self._starting:
                continue  # only the actor is new
            run = await self._adopted(container_id, record)
            if run is None:
                await asyncio.to_thread(self._forget, container_id)
            else:
                await self._take_over(self._keep(container_id, record.task, run))
        for splice in tuple(self._at_work.values()):
            splice.cut("the pool was started again")
        self._tell(pool.PoolRestarted(tuple(self._kept)))
        for called, _ in tuple(self._callers.values()):
            self._tell(called)

    async def _take_over(self, kept: _Kept) -> None:
        """One that does not let anybody in, since it was still being started, ends; its next call starts another."""
        if not await _lets_in(kept):
            await kept.run.stop(0)
            await kept.over.wait()

    async def _adopted(self, container_id: ContainerId, record: Record) -> Run | None:
        executor = self._executors.get(record.task.executor)
        if executor is None or not record.handle:
            return None
        return await executor.adopt(RUN + container_id, record.task, self._work(container_id), record.handle)

    async def _start(self, container_id: ContainerId, image: Image, devices: tuple[Gpu, ...]) -> None:
        if container_id in self._kept or container_id in self._starting:
            return
        self._starting.add(container_id)
        try:
            task = _on(self._task_of(image, await self._ask()), devices)
            await asyncio.to_thread(self._prepare, container_id, task)
            run = await self._executors[task.executor].run(RUN + container_id, task, self._work(container_id))
        except (DmsError, OSError) as error:
            await asyncio.to_thread(self._forget, container_id)
            self._tell(pool.StartFailed(container_id, str(error)))
            return
        finally:
            self._starting.discard(container_id)
        kept = self._keep(container_id, task, run)
        if container_id in self._unwanted:
            await run.stop(0)
            return
        kept.waiting = asyncio.get_running_loop().create_task(self._until_ready(container_id, kept))

    def _task_of(self, image: Image, services: Services) -> Task:
        service = services.of_image(image)
        if service is None:
            raise UserError("not_found", "its service is not installed any more")
        if service.task.executor not in self._executors:
            raise UserError("not_found", f"there is no executor {service.task.executor!r} here now")
        return service.task

    def _keep(self, container_id: ContainerId, task: Task, run: Run) -> _Kept:
        kept = self._kept[container_id] = _Kept(task, run)
        self._hands.start(lambda: self._watch(container_id, kept), f"container {container_id}")
        return kept

    async def _watch(self, container_id: ContainerId, kept: _Kept) -> None:
        """Until nothing is left of it."""
        ending: Ending | None = None
        async for event in kept.run.events():
            match event:
                case Started(handle=handle):
                    await asyncio.to_thread(self._write, container_id, Record(kept.task, handle))
                case LogChunk(data=data):
                    kept.said = (kept.said + data)[-TOLD:]
                case EgressRefused(barred=barred):
                    log.warning("container %s: no connection to %s: %s", container_id, barred.destination, barred.why)
                case Exited(ending=ending):
                    pass
        if kept.waiting is not None:
            kept.waiting.cancel()
        del self._kept[container_id]
        self._unwanted.discard(container_id)
        await asyncio.to_thread(self._forget, container_id)
        self._tell(pool.ContainerDied(container_id, _why(ending, kept.said)))
        kept.over.set()

    async def _until_ready(self, container_id: ContainerId, kept: _Kept) -> None:
        """Tries until it lets a connection in, or has ended; the pool gives it up when it takes too long."""
        pause = FIRST_LOOK_S
        while not await _lets_in(kept):
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK_S)
        self._tell(pool.Started(container_id))

    async def _stop(self, container_id: ContainerId) -> None:
        kept = self._kept.get(container_id)
        if kept is not None:
            await kept.run.stop(GRACE_MS)
        elif container_id in self._starting:
            self._unwanted.add(container_id)
        else:
            self._tell(pool.ContainerDied(container_id))

    async def _deliver(self, call_id: CallId, container_id: ContainerId) -> None:
        _, given = self._callers.get(call_id, (None, None))
        kept = self._kept.get(container_id)
        if (
            given is None or given.done() or kept is None
        ):  # nobody is there for it any more, or its death is about to be told
            self._tell(pool.CallEnded(call_id))
            return
        try:
            inside = await kept.run.connect(target_of(kept.task))
        except DmsError as error:
            self._refuse(
                call_id, UserError("call_refused", f"its container lets nobody in: {error.message}", retryable=True)
            )
            self._tell(pool.CallEnded(call_id))
            return
        begun = asyncio.get_running_loop().time()  # from here on whoever calls sees it at work
        outside, ours = socket.socketpair()
        splice = self._at_work[call_id] = Splice(inside)
        splice.join(ours)
        if given.done():
            outside.close()
        else:
            given.set_result(outside)
        try:
            async with asyncio.timeout(self._longest_ms / 1000):
                await splice.wait_over()
        except TimeoutError:
            splice.cut(f"it took longer than {format_millis(self._longest_ms)}")
        finally:
            splice.abort()
            del self._at_work[call_id]
        self._tell(pool.CallEnded(call_id, Usage(round((asyncio.get_running_loop().time() - begun) * 1000))))

    def _refuse(self, call_id: CallId, error: UserError) -> None:
        _, given = self._callers.get(call_id, (None, None))
        if given is not None and not given.done():
            given.set_exception(error)

    def _fail(self, call_id: CallId, why: str) -> None:
        self._refuse(call_id, UserError("call_refused", why, retryable=False))
        if (splice := self._at_work.get(call_id)) is not None:
            splice.cut(why)

    # ------------------------------------------------------------------------------------------------------------------ files

    def _records(self) -> Iterator[tuple[ContainerId, Record]]:
        if not self._directory.is_dir():
            return
        for directory in sorted(self._directory.iterdir()):
            try:
                record = msgspec.msgpack.decode((directory / "record").read_bytes(), type=Record)
            except (OSError, msgspec.DecodeError):
                record = Record(Task(""))  # the machine died while it was written, and the container with it
            yield ContainerId(directory.name), record

    def _prepare(self, container_id: ContainerId, task: Task) -> None:
        work = self._work(container_id)
        self._forget(container_id)
        work.mkdir(mode=0o700, parents=True)
        files = [file for dataset in task.datasets for file in files_of(dataset, self._datasets)]
        lay_out((*task.inputs, *files), work, self._blobs)
        self._write(container_id, Record(task))

    def _write(self, container_id: ContainerId, record: Record) -> None:
        file = self._directory / container_id / "record"
        new = file.with_suffix(".new")
        new.write_bytes(msgspec.msgpack.encode(record))
        new.replace(file)

    def _forget(self, container_id: ContainerId) -> None:
        job_directory.remove(self._directory / container_id)

    def _work(self, container_id: ContainerId) -> Path:
        return self._directory / container_id / "work"


def _on(task: Task, devices: tuple[Gpu, ...]) -> Task:
    return msgspec.structs.replace(task, resources=msgspec.structs.replace(task.resources, gpus=devices))


async def _lets_in(kept: _Kept) -> bool:
    try:
        (await kept.run.connect(target_of(kept.task))).close()
    except DmsError:
        return False
    return True


def _why(ending: Ending | None, said: bytes) -> str:
    """How a container ended, and what it said last."""
    if ending is None:
        return ""
    told = ending.detail or str(ending.reason)
    last = said.decode(errors="replace").strip()
    return f"{told}; it wrote last: {last}" if last else told
