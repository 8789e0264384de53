"""data.*: datasets that this node keeps."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dms.node.api.base import Base
from dms.rpc.api.data import AddDataset, Dataset, DatasetFile, DatasetList, DatasetParams, DatasetView
from dms.store.datasets import KeptDataset
from dms_proto.errors import UserError
from dms_proto.work import Input


class DataGroup(Base):
    """The methods of `dms.rpc.api.data.DataMethods`."""

    async def data_add(self, params: AddDataset) -> Dataset:
        """See `DataMethods`."""
        paths = [Path(path) for path in params.paths]
        for path in paths:
            if not path.is_absolute():
                raise UserError("bad_argument", f"{path} is no absolute path: the node works in another directory")
        kept = await asyncio.to_thread(
            self._services.datasets.add, paths, params.name, bound=params.bound, shared=params.shared
        )
        return _shown(kept)

    async def data_list(self) -> DatasetList:
        """See `DataMethods`."""
        return DatasetList(tuple(map(_shown, self._services.datasets.kept)))

    async def data_show(self, params: DatasetParams) -> DatasetView:
        """See `DataMethods`."""
        return await asyncio.to_thread(self._dataset, params)

    async def data_remove(self, params: DatasetParams) -> Dataset:
        """See `DataMethods`."""
        kept = self._services.datasets.find(params.dataset)
        await asyncio.to_thread(self._services.datasets.remove, kept)
        return _shown(kept)

    def _dataset(self, params: DatasetParams) -> DatasetView:
        kept = self._services.datasets.find(params.dataset)
        manifest = self._services.datasets.manifest(kept.digest)
        files = manifest.files[: params.limit] if manifest is not None else ()
        return DatasetView(_shown(kept), tuple(map(self._shown_file, files)))

    def _shown_file(self, file: Input) -> DatasetFile:
        blob = self._services.blobs.path(file.digest)
        return DatasetFile(file.path, file.digest, file.size, str(blob) if blob is not None else "", file.executable)


def _shown(kept: KeptDataset) -> Dataset:
    return Dataset(kept.digest, kept.name, kept.files, kept.total, kept.bound, kept.added_at, kept.shared)
