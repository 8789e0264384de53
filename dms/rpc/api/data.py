"""data.*: datasets that this node keeps."""

from __future__ import annotations

from typing import Annotated, Protocol

import msgspec

from dms.rpc.registry import method
from dms_proto.ids import Digest
from dms_proto.rules import Word

MAX_SHOWN = 1_000
"""Files that one answer shows, unless more are asked for."""
MOST_SHOWN = 100_000
"""Files that one answer can show: more than a manifest has room for."""


class AddDataset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Files to be kept as a dataset.

    Attributes:
        paths: absolute; files, and directories with all below them. A single directory stands for what is in it.
        name: what to call it; empty: by its id alone.
        bound: it never leaves this node: what reads it runs here.
        shared: whoever knows its whole id may have it, so that it can be named on other nodes. What is shared stays so until it is removed, or bound.
    """

    paths: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=4096)], ...], msgspec.Meta(min_length=1, max_length=1024)
    ]
    name: Word = ""
    bound: bool = False
    shared: bool = False


class DatasetParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dataset.

    Attributes:
        dataset: its name, its id, or a unique beginning of it.
        limit: most files to show.
    """

    dataset: Word
    limit: Annotated[int, msgspec.Meta(ge=0, le=MOST_SHOWN)] = MAX_SHOWN


class Dataset(msgspec.Struct, frozen=True):
    """A dataset that is kept here.

    Attributes:
        digest: its id: of its manifest.
        name: what it is called; may be empty.
        files: how many it has.
        size: bytes of all of them.
        bound: it never leaves this node.
        added_at: when.
        shared: whoever knows its whole id may have it.
    """

    digest: Digest
    name: str
    files: int
    size: int
    bound: bool
    added_at: int
    shared: bool = False


class DatasetFile(msgspec.Struct, frozen=True):
    """A file of a dataset.

    Attributes:
        path: below the dataset's directory.
        digest: of its content.
        size: bytes.
        blob: where its content lies on this machine; empty if it is gone.
        executable: whether it may be run.
    """

    path: str
    digest: Digest
    size: int
    blob: str
    executable: bool


class DatasetView(msgspec.Struct, frozen=True):
    """A dataset and its files.

    Attributes:
        dataset: what it is.
        contents: the first of its files, in order of their paths.
    """

    dataset: Dataset
    contents: tuple[DatasetFile, ...]


class DatasetList(msgspec.Struct, frozen=True):
    """All that are kept.

    Attributes:
        datasets: newest first.
    """

    datasets: tuple[Dataset, ...]


class DataMethods(Protocol):
    """Datasets: added once, named in any job that is submitted here."""

    @method("data.add", mutates=True)
    async def data_add(self, params: AddDataset) -> Dataset:
        """Copies files into the node and keeps them as a dataset. The same files give the same id, and are stored once."""
        ...

    @method("data.list")
    async def data_list(self) -> DatasetList:
        """The datasets that are kept here."""
        ...

    @method("data.show")
    async def data_show(self, params: DatasetParams) -> DatasetView:
        """One dataset, and its files."""
        ...

    @method("data.remove", mutates=True)
    async def data_remove(self, params: DatasetParams) -> Dataset:
        """Keeps a dataset no longer. Jobs that are under way still get it; its files go when nothing needs them and there is need for room."""
        ...
