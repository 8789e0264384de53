"""The datasets of this node: added once, named by id wherever a job is submitted here, held as long as they are kept.

A **shared** dataset is served to whoever knows its id, and so can be named on any node (`dms.node.finding`).

A **bound** dataset never leaves: nothing of it is served to any peer, and no task of another requester gets at it. So what reads it runs here.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

from dms.jobs.inputs import checked_place, files_at
from dms.node.manifests import Known, Manifests
from dms.rpc.ids import match_id
from dms.store.blobs import BlobStore
from dms.store.datasets import DatasetShelf, KeptDataset
from dms.store.errors import store_error
from dms_proto.data.manifest import Manifest, decoded, encoded, short_id
from dms_proto.data.marks import mark_of
from dms_proto.errors import UserError
from dms_proto.ids import Digest, PeerId, RequestId, digest_of
from dms_proto.work import DatasetInput, Input, Task, blobs_of

DEFAULT_PLACE: Final = "data"
"""The directory of a dataset without a name, in a job that does not say where it wants it."""
_WHOLE_ID: Final = re.compile(r"sha256:[0-9a-f]{64}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a dataset may be called: it stands before a colon on the command line, and names a directory."""


class Datasets:
    """One per node. Methods that read or write files block; the others may be called on any thread."""

    def __init__(self, blobs: BlobStore, shelf: DatasetShelf, me: PeerId, clock: Callable[[], int]) -> None:
        self._blobs = blobs
        self._me = me
        self._shelf = shelf
        self._clock = clock
        self._arriving: frozenset[Digest] = frozenset()
        self._manifests = Manifests(self._read_manifest)
        self._adding = threading.Lock()
        self._bound = self._blobs_of_bound()
        self._shared = self._blobs_of_shared()

    @property
    def kept(self) -> Sequence[KeptDataset]:
        """All, newest first."""
        return sorted(self._shelf.kept.values(), key=lambda dataset: -dataset.added_at)

    def find(self, given: str) -> KeptDataset:
        """The dataset a person means: by its name, its id, or a unique beginning of it.

        Raises:
            UserError: `not_found`, `ambiguous_id`.
        """
        named = [dataset for dataset in self.kept if dataset.name == given]
        if named:
            return named[0]
        ids = {digest.removeprefix("sha256:"): dataset for digest, dataset in self._shelf.kept.items()}
        return ids[match_id(given.removeprefix("sha256:"), ids, "dataset")]

    def manifest(self, digest: Digest) -> Manifest | None:
        """What a dataset is made of; None when its manifest is not here, or is none. Blocks when it was not read lately."""
        try:
            return self._manifests.get(digest).manifest if self._blobs.path(digest) is not None else None
        except OSError:  # it was removed meanwhile, or cannot be read now
            return None

    def blobs_of(self, task: Task) -> frozenset[Digest]:
        """The blobs that a node needs to run a task, as far as they can be named here."""
        return blobs_of(task).union(*map(self.files_of, (dataset.digest for dataset in task.datasets)))

    def files_of(self, digest: Digest) -> frozenset[Digest]:
        """The blobs that a dataset's files are, and the lists of their chunks; none, when its manifest is not here, or is none."""
        try:
            return self._known_files_of(digest)
        except OSError:  # see `manifest`
            return frozenset()

    def needed(self) -> frozenset[Digest]:
        """The blobs of all datasets that are kept, or are being added.

        Raises:
            OSError: a manifest cannot be read now.
        """
        return self._arriving.union(self._shelf.kept, *map(self._known_files_of, self._shelf.kept))

    def is_of(self, task: Task, digest: Digest) -> bool:
        """Whether a node needs a blob to run a task."""
        return digest in blobs_of(task) or any(digest in self.files_of(dataset.digest) for dataset in task.datasets)

    def is_bound(self, digest: Digest) -> bool:
        """Whether a blob belongs to a dataset that never leaves."""
        return digest in self._bound

    def is_withheld(self, peer: PeerId, digest: Digest) -> bool:
        """Whether a peer gets nothing of a blob: it belongs to a bound dataset, and the peer is another node."""
        return peer != self._me and digest in self._bound

    def is_shared(self, digest: Digest) -> bool:
        """Whether a blob belongs to a dataset that is shared. One that belongs to a bound dataset as well is withheld all the same."""
        return digest in self._shared

    def shared(self, request_id: RequestId, mark: bytes) -> KeptDataset | None:
        """The shared dataset that a question means."""
        shared = (dataset for dataset in self._shelf.kept.values() if dataset.shared)
        return next((dataset for dataset in shared if mark_of(request_id, dataset.digest) == mark), None)

    def elsewhere(self, given: str) -> Digest | None:
        """The dataset that is named by its whole id and is not kept here; None: what is given is no such id."""
        digest = Digest(f"sha256:{given.removeprefix('sha256:')}")
        return digest if _WHOLE_ID.fullmatch(digest) and digest not in self._shelf.kept else None

    def add(self, paths: Sequence[Path], name: str = "", *, bound: bool = False, shared: bool = False) -> KeptDataset:
        """Copies files, and directories with all below them, and keeps them as one dataset. A single directory stands for what is in it.

        Raises:
            UserError: `bad_argument`: a path leads to no regular file, the files are no dataset, the name is none or is taken, or a bound one
                would be set free, or shared.
            MachineError: `disk_full`, `store_failed`.
        """
        _check_name(name)
        if bound and shared:
            raise UserError("bad_argument", "what is bound never leaves, so it cannot be shared", hint="choose one")
        with self._adding:
            try:
                digest, size, manifest = self._taken_in(paths)
                self._check(digest, name, bound=bound)
                known = self._shelf.kept.get(digest)
                called = name or (known.name if known is not None else "")
                shared = shared or (known is not None and known.shared and not bound)
                dataset = KeptDataset(
                    digest, size, manifest.size, len(manifest.files), called, bound, self._clock(), shared
                )
                if bound:
                    self._bound |= {digest, *manifest.blobs}
                self._shelf.put(dataset)
                self._shared = self._blobs_of_shared()
            finally:
                self._arriving = frozenset()
        return dataset

    def remove(self, dataset: KeptDataset) -> None:
        """Keeps a dataset no longer. Its content goes when nothing else needs it and there is need for room.

        Raises:
            MachineError: `store_failed`.
        """
        self._shelf.remove(dataset)
        self._bound = self._blobs_of_bound()
        self._shared = self._blobs_of_shared()

    def wanted(self, given: str, path: str) -> DatasetInput:
        """A dataset as an input of a task, placed in the directory `path`; empty: as it is called, or `DEFAULT_PLACE`.

        Raises:
            UserError: `not_found`, `ambiguous_id`; `bad_job`: that is no place.
        """
        dataset = self._brought(given) or self.find(given)
        place = path or dataset.name or DEFAULT_PLACE
        try:
            return DatasetInput(checked_place(place), dataset.digest, dataset.size, dataset.total)
        except ValueError as error:
            raise UserError("bad_job", f"dataset {given}: {error}") from error

    def _brought(self, given: str) -> KeptDataset | None:
        """What is known of another node's dataset whose manifest is here."""
        digest = self.elsewhere(given)
        manifest = self.manifest(digest) if digest is not None else None
        if digest is None or manifest is None:
            return None
        return KeptDataset(digest, self._blobs.size(digest), manifest.size, len(manifest.files))

    def _taken_in(self, paths: Sequence[Path]) -> tuple[Digest, int, Manifest]:
        try:
            files = sorted(self._copied(paths), key=lambda file: file.path.split("/"))
            if not files:
                raise ValueError(f"there is no file in {' '.join(map(str, paths))}")
            manifest = Manifest(tuple(files))
            data = encoded(manifest)
        except ValueError as error:
            raise UserError("bad_argument", str(error)) from error
        self._arriving |= {digest_of(data)}
        return self._blobs.put_bytes(data), len(data), manifest

    def _copied(self, paths: Sequence[Path]) -> Iterator[Input]:
        for path in paths:
            for file, below in files_at(path, str(path)):
                real = file.resolve()
                content = self._blobs.put_file(real)
                self._arriving |= {content.digest, content.chunks}
                place = below if below and len(paths) == 1 else str(PurePosixPath(path.name, below))
                executable = bool(real.stat().st_mode & 0o111)
                yield Input(checked_place(place), content.digest, content.size, executable, content.chunks)

    def _check(self, digest: Digest, name: str, *, bound: bool) -> None:
        other = next((kept for kept in self.kept if name and kept.name == name and kept.digest != digest), None)
        if other is not None:
            raise UserError(
                "bad_argument",
                f"{short_id(other.digest)} is called {name!r} already",
                hint=f"dms data remove {name}, or another --name",
            )
        known = self._shelf.kept.get(digest)
        if known is not None and known.bound and not bound:
            raise UserError(
                "bad_argument",
                f"{short_id(digest)} is kept already, bound to this node",
                hint=f"dms data remove {short_id(digest)} first, if it may leave from now on",
            )

    def _read_manifest(self, digest: Digest) -> Known:
        """What is remembered of a manifest. That it cannot be read now is not: OSError."""
        path = self._blobs.path(digest)
        if path is None:
            raise FileNotFoundError(digest)
        data = path.read_bytes()
        try:
            manifest = decoded(data)
        except ValueError:  # a peer's word is no manifest
            return Known(None, frozenset(), 0)
        return Known(manifest, manifest.blobs, len(data))

    def _known_files_of(self, digest: Digest) -> frozenset[Digest]:
        return self._manifests.get(digest).blobs if self._blobs.path(digest) is not None else frozenset()

    def _blobs_of_shared(self) -> frozenset[Digest]:
        """Those that anybody may have. What cannot be read now is not served."""
        shared = [dataset.digest for dataset in self._shelf.kept.values() if dataset.shared]
        return frozenset(shared).union(*map(self.files_of, shared))

    def _blobs_of_bound(self) -> frozenset[Digest]:
        """Those that never leave. Without them the node does not go on: what it cannot read it could not keep back.

        Raises:
            MachineError: `store_failed`: a manifest that is there cannot be read.
        """
        bound = [dataset.digest for dataset in self._shelf.kept.values() if dataset.bound]
        try:
            return frozenset(bound).union(*map(self._known_files_of, bound))
        except OSError as error:
            raise store_error(error, self._blobs.root) from error


def _check_name(name: str) -> None:
    if name and not _NAME.fullmatch(name):
        raise UserError(
            "bad_argument",
            f"{name!r} is no name of a dataset: it has letters, digits, '.', '_' and '-', at most 64, a letter or digit first",
            hint="--name with another one, or none: its id always names it",
        )
