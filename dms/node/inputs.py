"""Getting a task's inputs into its directory: from the blob store, or from the nodes that have them, verified either way, copied and never linked."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

from dms.executors.settings import DEFAULT_UNRESERVED
from dms.node.arrivals import arrived_bytes, fetch_blob
from dms.node.datasets import Datasets
from dms.store.blobs import BlobStore
from dms_actors.ports import Network
from dms_proto.data.chunks import Content
from dms_proto.data.manifest import placed
from dms_proto.data.places import disk_bytes, flaw_of
from dms_proto.errors import DmsError, MachineError, PeerError
from dms_proto.ids import PeerId, short
from dms_proto.units import format_bytes, format_count
from dms_proto.work import DatasetInput, Input, Task

AT_ONCE: Final = 4
"""Inputs fetched at a time: many small ones wait for the way there and back, not for bytes."""


TELL_S: Final = 2.0
"""Seconds between two words on how far it is."""


class Sources(NamedTuple):
    """Where the inputs of a task come from: its requester and others that have them, unless they are here.

    Attributes:
        requester: asked for everything.
        others: asked beside it.
        network: to fetch by.
        blobs: where they go.
        datasets: what this node knows of datasets.
        came: gets counted in how many bytes of each node were kept.
    """

    requester: PeerId
    others: Sequence[PeerId]
    network: Network
    blobs: BlobStore
    datasets: Datasets
    came: Counter[PeerId]


async def fetch_missing(task: Task, sources: Sources, say: Callable[[str], None]) -> tuple[Input, ...]:
    """Fetches the inputs that are not here; gives all, those of the task's datasets too. `say` gets a line now and then on how far it is.

    Raises:
        PeerError: one cannot be had from its requester; or they are not what was agreed.
        MachineError: one cannot be stored here.
    """
    _check_room(task, disk_bytes(task.inputs) + sum(dataset.total for dataset in task.datasets))
    parts = [task.inputs, *[await _of_dataset(dataset, sources) for dataset in task.datasets]]
    inputs = tuple(itertools.chain(*parts))
    await asyncio.to_thread(_check_places, task, inputs)
    turn = asyncio.Semaphore(AT_ONCE)

    async def fetch(wanted: Input) -> None:
        async with turn:
            await _fetch(f"input {wanted.path}", _content(wanted), sources)

    missing = {(wanted.digest, wanted.size): wanted for wanted in inputs if not _is_here(wanted, sources)}
    fetches = [asyncio.ensure_future(fetch(wanted)) for wanted in missing.values()]
    telling = asyncio.ensure_future(_keep_telling([_content(wanted) for wanted in missing.values()], sources, say))
    try:
        await asyncio.gather(*fetches)
    finally:
        for each in (*fetches, telling):
            each.cancel()
    return inputs


def _content(wanted: Input) -> Content:
    return Content(wanted.digest, wanted.size, wanted.chunks)


async def _keep_telling(missing: Sequence[Content], sources: Sources, say: Callable[[str], None]) -> None:
    total = format_bytes(sum(content.size for content in missing))
    nodes = format_count(1 + len(sources.others), "node")
    while True:
        await asyncio.sleep(TELL_S)
        here = await asyncio.to_thread(lambda: sum(arrived_bytes(sources.blobs, content) for content in missing))
        say(f"fetching its data from {nodes}, {format_bytes(here)} of {total}")


async def _of_dataset(wanted: DatasetInput, sources: Sources) -> tuple[Input, ...]:
    what = f"dataset {wanted.path}"
    await _fetch(what, Content(wanted.digest, wanted.size), sources)
    manifest = await asyncio.to_thread(sources.datasets.manifest, wanted.digest)
    if manifest is None:
        raise PeerError("bad_job", f"{what}: {wanted.digest} is no manifest of a dataset", retryable=False)
    try:
        return placed(wanted, manifest)
    except ValueError as error:
        raise PeerError("bad_job", str(error), retryable=False) from error


def _is_here(wanted: Input, sources: Sources) -> bool:
    here = sources.blobs.use(wanted.digest) is not None and sources.blobs.size(wanted.digest) == wanted.size
    return here and not sources.datasets.is_withheld(sources.requester, wanted.digest)


async def _fetch(what: str, content: Content, sources: Sources) -> None:
    if sources.datasets.is_withheld(sources.requester, content.digest):
        raise PeerError("not_granted", f"{what}: it is bound to this node, for jobs of its own", retryable=False)
    try:
        holders = (sources.requester, *sources.others)
        await fetch_blob(sources.network, sources.blobs, holders, content, sources.came)
    except PeerError as error:
        raise PeerError(error.code, f"{what}: {_not_to_be_had(content, sources)}: {error.message}") from error
    except DmsError as error:
        raise MachineError(error.code, f"{what} could not be stored here: {error.message}") from error


def _not_to_be_had(content: Content, sources: Sources) -> str:
    asked = ", ".join((f"its requester {short(sources.requester)}", *map(short, sources.others)))
    return f"{content.digest} is not to be had of {asked}"


def _check_places(task: Task, inputs: tuple[Input, ...]) -> None:
    """What cannot be laid out is the requester's fault, however it would fail."""
    if flaw := flaw_of(wanted.path for wanted in inputs):
        raise PeerError("bad_job", flaw, retryable=False)
    _check_room(task, disk_bytes(inputs))


def _check_room(task: Task, size: int) -> None:
    """Inputs are fetched before the run has any limit: nobody is to fill the disk by them."""
    room = task.resources.disk_bytes or DEFAULT_UNRESERVED.disk_bytes
    if size > room:
        what = f"its inputs take {format_bytes(size)} of disk, {format_bytes(room)} were agreed"
        raise PeerError("bad_job", what, retryable=False)


def lay_out(inputs: Iterable[Input], directory: Path, blobs: BlobStore) -> None:
    """Copies inputs into `directory`. Blocking. Copies, since a link would let the job write into the blob store.

    Raises:
        MachineError: one cannot be copied.
    """
    for wanted in inputs:
        source = blobs.use(wanted.digest)
        if source is None:
            raise MachineError("store_failed", f"input {wanted.path} vanished from the blob store")
        target = directory / _safe(wanted)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o700 if wanted.executable else 0o600)
        except OSError as error:
            why = f"input {wanted.path} could not be laid out: {error.strerror or error}"
            raise MachineError("store_failed", why) from error


def _safe(wanted: Input) -> PurePosixPath:
    """The input's path; the message types refuse absolute paths and "..", this is the last look before a file is written."""
    path = PurePosixPath(wanted.path)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"input path {wanted.path!r} leads out of the job's directory")
    return path
