"""Inputs of this node's own jobs on their way into the blob store, and out of it again when no run ever asked for them.

A job that nobody takes may have brought gigabytes: they are of no use to anyone, and `store.keep_jobs_ms` is long. What was there before, what an
open job or allocation needs, and what is on its way for another job stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from dms.jobs.spec import JobSpec
from dms.node.feeds import Hub
from dms.store.blobs import BlobStore
from dms.tasks import Tasks
from dms_actors.ports import StoredEvent
from dms_proto.data.chunks import Content
from dms_proto.errors import DmsError, UserError
from dms_proto.ids import Digest, RequestId
from dms_proto.work import Input, blobs_of

log = logging.getLogger(__name__)


class IncomingInputs:
    """One per node. Lives on the loop.

    Args:
        hub: tells how jobs go on.
        blobs: where inputs are copied to.
        needed: the blobs that open jobs and allocations need.
    """

    def __init__(self, hub: Hub, blobs: BlobStore, needed: Callable[[], Awaitable[frozenset[Digest]]]) -> None:
        self._hub = hub
        self._blobs = blobs
        self._needed = needed
        self._on_their_way: Counter[Digest] = Counter()
        self._removing = asyncio.Lock()
        self._tasks = Tasks()

    async def close(self) -> None:
        """Removes nothing more. Idempotent."""
        await self._tasks.close()

    @asynccontextmanager
    async def copied(self, request_id: RequestId, spec: JobSpec) -> AsyncIterator[None]:
        """The block in which a job is handed over, its inputs copied before. They go again if the block fails, or the job ends without an award.

        Raises:
            UserError: `bad_job`, naming the input: its content is not there, or not what it was.
            MachineError: `disk_full`, `store_failed`.
        """
        if not spec.task.inputs:
            yield
            return
        digests = blobs_of(spec.task)
        new: list[Digest] = []
        async with self._removing:  # what is being removed is seen to be gone, and copied again
            self._on_their_way.update(digests)
        copying = asyncio.ensure_future(asyncio.to_thread(copy_inputs, spec, self._blobs, new))
        try:
            await asyncio.shield(copying)  # who asked may have left; the thread goes on
            forget = self._take_back_unless_awarded(request_id, new, copying)
            try:
                yield
            except BaseException:
                forget()
                raise
        except BaseException:
            self._take_back(new, copying)
            raise
        finally:
            self._on_their_way -= Counter(digests)

    def _take_back_unless_awarded(
        self, request_id: RequestId, new: Sequence[Digest], copying: asyncio.Future[None]
    ) -> Callable[[], None]:
        def hear(row: StoredEvent) -> None:
            if row.kind in ("AwardMade", "RequestEnded"):
                forget()
            if row.kind == "RequestEnded":
                self._take_back(new, copying)

        forget = self._hub.listen(request_id, hear)
        return forget

    def _take_back(self, new: Sequence[Digest], copying: asyncio.Future[None]) -> None:
        self._tasks.start(self._remove(new, copying), "take inputs back")

    async def _remove(self, new: Sequence[Digest], copying: asyncio.Future[None]) -> None:
        await asyncio.wait({copying})
        async with self._removing:
            try:
                needed = await self._needed()
                for digest in new:
                    if digest not in needed and not self._on_their_way[digest]:
                        await asyncio.to_thread(self._blobs.delete, digest)
            except (DmsError, OSError) as error:
                log.warning("inputs that nobody needs stay until they are swept: %s", error)


def copy_inputs(spec: JobSpec, blobs: BlobStore, new: list[Digest]) -> None:
    """Copies inputs that are not there, verified. Blocking. `new` gets what was copied, also when it ends with an error."""
    for wanted in spec.task.inputs:
        if blobs.use(wanted.digest) is None:
            _copy_one(wanted, spec.sources.get(wanted.digest, ""), blobs, new)
        elif wanted.chunks and blobs.use(wanted.chunks) is None:
            content = blobs.put_list(wanted.digest)
            new.append(content.chunks)
            if content.chunks != wanted.chunks:
                raise UserError("bad_job", f"input {wanted.path}: its list of chunks is not that of {wanted.digest}")


def _copy_one(wanted: Input, source: str, blobs: BlobStore, new: list[Digest]) -> None:
    if not Path(source).is_absolute():
        where = f"at {source!r}, which is no absolute path" if source else "nowhere: `sources` does not name it"
        raise UserError("bad_job", f"input {wanted.path}: its content is said to lie {where}")
    try:
        content = blobs.put_file(Path(source))
    except UserError as error:
        raise UserError("bad_job", f"input {wanted.path}: {error.message}") from error
    except PermissionError as error:
        raise UserError("bad_job", f"input {wanted.path}: {source} cannot be read") from error
    new += [digest for digest in (content.digest, content.chunks) if digest]
    if content != Content(wanted.digest, wanted.size, wanted.chunks or content.chunks):
        raise UserError(
            "bad_job",
            f"input {wanted.path}: {source} has changed since the job was made",
            hint="submit it again: the file is then read anew",
        )
