"""Bound datasets where files cannot be opened for a moment: what cannot be read is not taken for something else from then on."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dms.node.datasets import Datasets
from dms.store.blobs import BlobStore
from dms.store.datasets import DatasetShelf
from dms.testing.samples import NOW, PROVIDER, REQUESTER
from dms_proto.errors import MachineError
from dms_proto.ids import digest_of
from dms_proto.work import DatasetInput, Task

CONTENT = digest_of(b"content")


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Nothing more can be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def store(tmp_path: Path) -> tuple[BlobStore, DatasetShelf]:
    return BlobStore(tmp_path / "blobs"), DatasetShelf(tmp_path / "datasets")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_a_node_that_cannot_say_what_is_bound_does_not_start(store: tuple[BlobStore, DatasetShelf], file: Path) -> None:
    Datasets(*store, PROVIDER.peer_id, lambda: NOW).add([file], bound=True)
    with no_descriptors(), pytest.raises(MachineError, match="Too many open files"):
        Datasets(*store, PROVIDER.peer_id, lambda: NOW)
    assert Datasets(*store, PROVIDER.peer_id, lambda: NOW).is_withheld(REQUESTER.peer_id, CONTENT)


def test_a_moment_in_which_a_manifest_cannot_be_read_is_not_remembered(
    store: tuple[BlobStore, DatasetShelf], file: Path
) -> None:
    dataset = Datasets(*store, PROVIDER.peer_id, lambda: NOW).add([file])
    datasets = Datasets(*store, PROVIDER.peer_id, lambda: NOW)
    task = Task("scripted", datasets=(DatasetInput("data", dataset.digest, dataset.size, dataset.total),))
    with no_descriptors():
        assert datasets.manifest(dataset.digest) is None
        assert not datasets.is_of(task, CONTENT)
        with pytest.raises(OSError, match="Too many open files"):
            datasets.needed()
    assert datasets.manifest(dataset.digest) is not None
    assert CONTENT in datasets.needed()
    assert datasets.is_of(task, CONTENT)
