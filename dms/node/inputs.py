"""Getting a task's inputs into its directory: from the blob store, or from the requester, verified either way, copied and never linked."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from dms.executors.settings import DEFAULT_UNRESERVED
from dms.node.arrivals import fetch_blob
from dms.store.blobs import BlobStore
from dms_actors.ports import Network
from dms_proto.data.chunks import Content
from dms_proto.errors import DmsError, MachineError, PeerError
from dms_proto.ids import PeerId
from dms_proto.units import format_bytes
from dms_proto.work import Input, Task


async def fetch_missing(task: Task, requester: PeerId, network: Network, blobs: BlobStore) -> None:
    """Fetches the inputs that are not here.

    Raises:
        PeerError: one cannot be had from its requester; or they are more than the disk that was agreed.
        MachineError: one cannot be stored here.
    """
    _check_room(task)
    for wanted in task.inputs:
        content = Content(wanted.digest, wanted.size, wanted.chunks)
        try:
            await fetch_blob(network, blobs, (requester,), content)
        except PeerError as error:
            raise PeerError(error.code, f"input {wanted.path}: {error.message}") from error
        except DmsError as error:
            raise MachineError(error.code, f"input {wanted.path} could not be stored here: {error.message}") from error


def _check_room(task: Task) -> None:
    """Inputs are fetched before the run has any limit: nobody is to fill the disk by them."""
    size = sum(wanted.size for wanted in task.inputs)
    room = task.resources.disk_bytes or DEFAULT_UNRESERVED.disk_bytes
    if size > room:
        what = f"its inputs have {format_bytes(size)}, {format_bytes(room)} of disk were agreed"
        raise PeerError("bad_job", what, retryable=False)


def lay_out(task: Task, directory: Path, blobs: BlobStore) -> None:
    """Copies the inputs into `directory`. Blocking. Copies, since a link would let the job write into the blob store.

    Raises:
        MachineError: one cannot be copied.
    """
    for wanted in task.inputs:
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
