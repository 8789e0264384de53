"""Datasets: a tree of files under one name, which is the digest of its manifest."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import msgspec

from dms_proto.ids import Digest
from dms_proto.rules import MAX_PATH
from dms_proto.units import format_bytes, format_count
from dms_proto.untrusted import read_msgpack
from dms_proto.work import MAX_MANIFEST, DatasetInput, Input


class Manifest(msgspec.Struct, frozen=True):
    """The files of a dataset, in rising order of their paths; at least one, and none below another."""

    files: Annotated[tuple[Input, ...], msgspec.Meta(min_length=1)]

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def blobs(self) -> frozenset[Digest]:
        """The blobs that its files are, and the lists of their chunks."""
        return frozenset(digest for file in self.files for digest in (file.digest, file.chunks) if digest)


def short_id(digest: Digest) -> str:
    """A dataset's id as people see it and write it."""
    return digest.removeprefix("sha256:")[:12]


def encoded(manifest: Manifest) -> bytes:
    """The bytes whose digest names the dataset: the same for the same files, whoever writes them.

    Raises:
        ValueError: it breaks a rule of manifests; the message is for a person.
    """
    data = msgspec.msgpack.encode(manifest)
    if len(data) > MAX_MANIFEST:
        files = format_count(len(manifest.files), "file")
        raise ValueError(f"{files} are too many for one dataset: pack them into archives")
    _check(manifest)
    return data


def decoded(data: bytes) -> Manifest:
    """What a manifest says; it may come from anybody.

    Raises:
        ValueError: it is none.
    """
    if len(data) > MAX_MANIFEST:
        raise ValueError(f"a manifest has at most {format_bytes(MAX_MANIFEST)}")
    try:
        manifest = read_msgpack(data, Manifest)
    except msgspec.DecodeError as error:
        raise ValueError(f"it is no manifest: {error}") from error
    _check(manifest)
    return manifest


def placed(wanted: DatasetInput, manifest: Manifest) -> tuple[Input, ...]:
    """The files of a dataset as inputs of a task.

    Raises:
        ValueError: the task says something else of the dataset than its manifest; or a path becomes too long.
    """
    if manifest.size != wanted.total:
        says = f"its task says {format_bytes(wanted.total)}"
        raise ValueError(f"dataset {wanted.path} has {format_bytes(manifest.size)}, {says}")
    inputs = tuple(msgspec.structs.replace(file, path=f"{wanted.path}/{file.path}") for file in manifest.files)
    if any(len(file.path) > MAX_PATH for file in inputs):
        raise ValueError(f"a path of dataset {wanted.path} has more than {MAX_PATH} characters")
    return inputs


def _check(manifest: Manifest) -> None:
    # With "/" before all others, what lies below a path comes right behind it.
    for one, other in pairwise(file.path.split("/") for file in manifest.files):
        if one >= other:
            raise ValueError(f"the files of a manifest are not in order, each once: {'/'.join(other)}")
        if other[: len(one)] == one:
            raise ValueError(f"{'/'.join(one)} of a manifest is a file, and a directory as well")
