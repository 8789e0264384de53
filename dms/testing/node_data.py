"""Datasets of the node in memory: two, of which one is bound; what is added has one file, named like the first path."""

# ruff: noqa: D102 - every method is described where it is declared, in dms.rpc.api

from __future__ import annotations

from pathlib import PurePath

from dms.rpc.api.data import AddDataset, Dataset, DatasetFile, DatasetList, DatasetParams, DatasetView
from dms.rpc.ids import match_id
from dms_proto.ids import Digest, digest_of
from dms_proto.units import GIB, MIB

PHOTOS = Dataset(digest_of(b"photos"), "photos", 1204, 3 * GIB, False, 1_760_000_000_000)
PATIENTS = Dataset(digest_of(b"patients"), "", 1, 5 * MIB, True, 1_750_000_000_000)


class MemoryData:
    """The part of `MemoryNode` that is datasets."""

    def __init__(self) -> None:
        self.datasets: dict[Digest, Dataset] = {one.digest: one for one in (PHOTOS, PATIENTS)}

    async def data_add(self, params: AddDataset) -> Dataset:
        name = PurePath(params.paths[0]).name
        added = Dataset(
            digest_of(name.encode()), params.name, 1, len(name), params.bound, PHOTOS.added_at, params.shared
        )
        self.datasets[added.digest] = added
        return added

    async def data_list(self) -> DatasetList:
        return DatasetList(tuple(self.datasets.values()))

    async def data_show(self, params: DatasetParams) -> DatasetView:
        found = self._find(params.dataset)
        files = (DatasetFile("below/a.jpg", digest_of(b"a"), found.size, "", executable=False),)
        return DatasetView(found, files[: params.limit])

    async def data_remove(self, params: DatasetParams) -> Dataset:
        return self.datasets.pop(self._find(params.dataset).digest)

    def _find(self, given: str) -> Dataset:
        named = [one for one in self.datasets.values() if one.name == given]
        whole = given if given.startswith("sha256:") else f"sha256:{given}"
        return named[0] if named else self.datasets[Digest(match_id(whole, self.datasets, "dataset"))]
