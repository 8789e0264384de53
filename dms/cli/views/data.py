"""Datasets in words."""

from __future__ import annotations

from collections.abc import Iterator

from dms.cli.blocks import Block, Line, Table
from dms.rpc.api.data import Dataset, DatasetList, DatasetView
from dms_proto.data.manifest import short_id
from dms_proto.units import format_bytes, format_count

COLUMNS = ("DATASET", "NAME", "FILES", "SIZE", "BOUND", "SHARED")


def added(dataset: Dataset) -> Iterator[Block]:
    """What is kept now."""
    where = ", bound to this node" if dataset.bound else ""
    yield Line(f"{_called(dataset)}: {_extent(dataset)}{where}")
    if dataset.shared:
        yield Line(f"shared: on other nodes it is {dataset.digest}")


def all_(found: DatasetList) -> Iterator[Block]:
    """All that are kept."""
    rows = [
        (short_id(one.digest), one.name, str(one.files), format_bytes(one.size), *map(_yes, (one.bound, one.shared)))
        for one in found.datasets
    ]
    yield Table(COLUMNS, rows) if rows else Line("no datasets; dms data add PATH keeps files as one", "dim")


def one(view: DatasetView) -> Iterator[Block]:
    """A dataset and its files."""
    dataset = view.dataset
    yield Line(f"dataset {_called(dataset)}", "strong")
    yield Line(f"id     {dataset.digest}")
    yield Line(f"has    {_extent(dataset)}")
    if dataset.bound:
        yield Line("bound  it never leaves this node; what reads it runs here")
    if dataset.shared:
        yield Line("shared whoever knows its id may have it: on other nodes too it is named by it")
    gone = sum(not file.blob for file in view.contents)
    if gone:
        yield Line(f"{format_count(gone, 'file is', 'files are')} gone; add the dataset again", "warn")
    yield Table(("FILE", "SIZE"), [(file.path, format_bytes(file.size)) for file in view.contents])
    if dataset.files > len(view.contents):
        yield Line(f"and {format_count(dataset.files - len(view.contents), 'file')} more", "dim")


def fetched(dataset: Dataset, into: str) -> Iterator[Block]:
    """Where its files are now."""
    yield Line(f"{_extent(dataset)} of {_called(dataset)} in {into}")


def removed(dataset: Dataset) -> Iterator[Block]:
    """What is kept no longer."""
    yield Line(f"{_called(dataset)} is kept no longer; its files go when there is need for room")


def _yes(what: bool) -> str:
    return "yes" if what else ""


def _called(dataset: Dataset) -> str:
    return f"{short_id(dataset.digest)} {dataset.name}".rstrip()


def _extent(dataset: Dataset) -> str:
    return f"{format_count(dataset.files, 'file')}, {format_bytes(dataset.size)}"
