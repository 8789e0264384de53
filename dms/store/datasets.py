"""The datasets a node keeps, a file each in HOME/datasets, by the digest of the manifest. Their content is in the blob store.

A file appears by a rename when all of its content is there, and with it goes the dataset's hold on that content.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from dms.config.paths import open_private
from dms.store.errors import store_error
from dms_proto.errors import MachineError
from dms_proto.rules import Amount, GoodDigest, Word


class KeptDataset(msgspec.Struct, frozen=True):
    """A dataset that is kept here.

    Attributes:
        digest: of its manifest.
        size: bytes of the manifest.
        total: bytes of all its files.
        files: how many.
        name: what its owner calls it; may be empty.
        bound: it never leaves this node.
        added_at: Unix ms.
        shared: whoever knows its id may have it.
    """

    digest: GoodDigest
    size: Amount
    total: Amount
    files: Amount
    name: Word = ""
    bound: bool = False
    added_at: Amount = 0
    shared: bool = False


class DatasetShelf:
    """Which datasets are kept. Methods block on the disk.

    Args:
        root: the directory; made with the first dataset.

    Raises:
        MachineError: `store_failed`: it cannot be read; `store_corrupt`: a file of it is damaged.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.kept = {dataset.digest: dataset for dataset in self._read()}

    def put(self, dataset: KeptDataset) -> None:
        """Keeps a dataset, or what is said of it now.

        Raises:
            MachineError: `disk_full`, `store_failed`: nothing was changed.
        """
        place = self._place(dataset)
        new = place.with_suffix(".new")
        try:
            self._root.mkdir(mode=0o700, exist_ok=True)
            with open(new, "wb", opener=open_private) as file:
                file.write(msgspec.json.format(msgspec.json.encode(dataset), indent=2) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(place)
        except OSError as error:
            raise store_error(error, self._root) from error
        self.kept = {**self.kept, dataset.digest: dataset}

    def remove(self, dataset: KeptDataset) -> None:
        """Keeps it no longer.

        Raises:
            MachineError: `store_failed`.
        """
        try:
            self._place(dataset).unlink(missing_ok=True)
        except OSError as error:
            raise store_error(error, self._root) from error
        self.kept = {digest: other for digest, other in self.kept.items() if digest != dataset.digest}

    def _place(self, dataset: KeptDataset) -> Path:
        return self._root / f"{dataset.digest.removeprefix('sha256:')}.json"

    def _read(self) -> Iterator[KeptDataset]:
        for path in sorted(self._root.glob("*.json")):
            try:
                yield msgspec.json.decode(path.read_bytes(), type=KeptDataset)
            except OSError as error:
                raise store_error(error, self._root) from error
            except msgspec.DecodeError as error:
                raise MachineError(
                    "store_corrupt", f"{path} is damaged: {error}", hint="move it away, and add the dataset again"
                ) from error
