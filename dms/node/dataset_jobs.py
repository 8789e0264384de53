"""Jobs that read files, and datasets of this node: which these are, whether they can be laid out, and where such a job can run."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from dms.executors.settings import DEFAULT_UNRESERVED
from dms.jobs.spec import JobSpec
from dms.node.datasets import Datasets
from dms.store.blobs import BlobStore
from dms_proto.data.manifest import placed, short_id
from dms_proto.data.places import BLOCK, disk_bytes, flaw_of
from dms_proto.errors import UserError
from dms_proto.ids import PeerId
from dms_proto.units import format_bytes, format_count
from dms_proto.work import DatasetInput, Input, Task


def with_datasets(spec: JobSpec, datasets: Datasets, me: PeerId, *, self_bids: bool) -> JobSpec:
    """The job with the datasets that it wishes in its task; with something bound among its inputs, for this node alone.

    Where there are datasets it blocks on the disk.

    Raises:
        UserError: `not_found`, `ambiguous_id`; `bad_job`: it has no room for them, two things have one place, or what is bound cannot be read
            where the job would run.
    """
    wished = [datasets.wanted(wish.dataset, wish.place) for wish in spec.datasets]
    wanted = (*spec.task.datasets, *wished)
    laid_out = [file for dataset in wanted for file in files_of(dataset, datasets)]
    spec = msgspec.structs.replace(spec, task=msgspec.structs.replace(spec.task, datasets=wanted), datasets=())
    _check_places(spec, wanted)
    check_laid_out((*spec.task.inputs, *laid_out), spec.task.resources.disk_bytes)
    read: tuple[DatasetInput | Input, ...] = (*wanted, *spec.task.inputs)
    bound = [item.path for item in read if datasets.is_bound(item.digest)]
    return _at_home(spec, bound[0], me, self_bids=self_bids) if bound else spec


def files_of(wanted: DatasetInput, datasets: Datasets) -> tuple[Input, ...]:
    """The files of a dataset that is here, placed. Blocks on the disk.

    Raises:
        UserError: `not_found`; `bad_job`: it cannot be placed there.
    """
    manifest = datasets.manifest(wanted.digest)
    if manifest is None:
        raise UserError("not_found", f"dataset {short_id(wanted.digest)} is not kept here", hint="dms data list")
    try:
        return placed(wanted, manifest)
    except ValueError as error:
        raise UserError("bad_job", str(error)) from error


def check_laid_out(files: Sequence[Input], room: int) -> None:
    """Whether files can be laid out, within `room` bytes of disk; 0: what a job has that asks for nothing.

    Raises:
        UserError: `bad_job`.
    """
    if flaw := flaw_of(file.path for file in files):
        raise UserError("bad_job", f"inputs: {flaw}", hint="say where with `as`")
    size, room = disk_bytes(files), room or DEFAULT_UNRESERVED.disk_bytes
    if size > room:
        raise UserError(
            "bad_job",
            f"resources.disk: {format_bytes(room)} is less than the inputs take, {format_bytes(size)}",
            hint=f"ask for more: the job's directory holds a copy of them, and a file takes {format_bytes(BLOCK)} at least",
        )


def check_kept(task: Task, datasets: Datasets, blobs: BlobStore) -> None:
    """Whether all that the datasets of a task hold is here, for work that begins anew when nobody can be asked for it. Blocks on the disk.

    Raises:
        UserError: `bad_job`.
    """
    for dataset in task.datasets:
        missing = sum(blobs.path(file.digest) is None for file in files_of(dataset, datasets))
        if missing:
            raise UserError(
                "bad_job",
                f"dataset {short_id(dataset.digest)} is not here: {format_count(missing, 'file')} of it {'is' if missing == 1 else 'are'} elsewhere",
                hint="dms data add keeps one here; a job that reads it brings it for a while",
            )


def _check_places(spec: JobSpec, wanted: tuple[DatasetInput, ...]) -> None:
    places = [f"{path}/" for path in (*(file.path for file in spec.task.inputs), *(each.path for each in wanted))]
    for dataset in wanted:
        own = f"{dataset.path}/"
        if sum(place.startswith(own) or own.startswith(place) for place in places) > 1:
            raise UserError(
                "bad_job",
                f"dataset {short_id(dataset.digest)} and another input are both placed at {dataset.path}",
                hint="say where with `as`, or --dataset ID:DIR",
            )


def _at_home(spec: JobSpec, path: str, me: PeerId, *, self_bids: bool) -> JobSpec:
    if spec.node not in ("", me):
        raise UserError(
            "bad_job",
            f"node: input {path} is bound to this node, and the job names another",
            hint="leave `node` out",
        )
    if not self_bids:
        raise UserError(
            "bad_job",
            f"input {path} is bound to this node, which takes no work",
            hint="set provider.enabled, or read something that is not bound",
        )
    return msgspec.structs.replace(spec, node=me)
