"""dms data: datasets of this node."""

# ruff: noqa: D301 - \b is the character by which click keeps line breaks

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from dms.cli.app import CONTEXT, group
from dms.cli.context import Io, existing, with_io

data: Final = group("data", "Datasets of this node: added once, named in jobs.")
DATASET = click.argument("dataset", metavar="ID")
ADD_S: Final = 24 * 3600.0
"""Seconds that copying the files may take."""


@data.command(context_settings=CONTEXT)
@click.option("--name", metavar="TEXT", default="", help="What to call it.")
@click.option("--bound", is_flag=True, help="It never leaves this node: what reads it runs here.")
@click.option("--shared", is_flag=True, help="Whoever knows its whole id may have it: it can be named on other nodes.")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@with_io
def add(io: Io, *, name: str, bound: bool, shared: bool, paths: tuple[str, ...]) -> None:
    """Copy files into the node and keep them as a dataset.

    A single directory stands for what is in it. Prints the id, which follows from the files: the same files are the same dataset.

    \b
    dms data add photos --name photos
    dms data add patients.csv --bound
    """
    from dms.cli.progress import Progress  # noqa: PLC0415
    from dms.cli.views import data as views  # noqa: PLC0415
    from dms.rpc.api.data import AddDataset, Dataset  # noqa: PLC0415

    wanted = AddDataset(tuple(str(existing(path).absolute()) for path in paths), name, bound, shared)
    with io.node() as node:
        with Progress("copying the files", enabled=not io.as_json):
            dataset = node.call("data.add", wanted, Dataset, timeout=ADD_S)
        io.show(dataset, views.added)


@data.command("list", context_settings=CONTEXT)
@with_io
def list_(io: Io) -> None:
    """List the datasets that this node keeps.

    \b
    dms data list
    """
    from dms.cli.views import data as views  # noqa: PLC0415
    from dms.rpc.api.data import DatasetList  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("data.list", None, DatasetList), views.all_)


@data.command(context_settings=CONTEXT)
@DATASET
@with_io
def show(io: Io, *, dataset: str) -> None:
    """Show a dataset and its files.

    \b
    dms data show photos
    """
    from dms.cli.views import data as views  # noqa: PLC0415
    from dms.rpc.api.data import DatasetParams, DatasetView  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("data.show", DatasetParams(dataset), DatasetView), views.one)


@data.command(context_settings=CONTEXT)
@click.option("--force", is_flag=True, help="Replace files that are already there.")
@DATASET
@click.argument("into", metavar="DIR")
@with_io
def get(io: Io, *, force: bool, dataset: str, into: str) -> None:
    """Copy the files of a dataset into a directory.

    \b
    dms data get photos ./photos
    """
    from dms.cli.fetching import fetch_dataset  # noqa: PLC0415
    from dms.cli.views import data as views  # noqa: PLC0415
    from dms.rpc.api.data import MOST_SHOWN, DatasetParams, DatasetView  # noqa: PLC0415

    with io.node() as node:
        view = node.call("data.show", DatasetParams(dataset, MOST_SHOWN), DatasetView)
    fetch_dataset(view, Path(into), force=force)
    io.show(view.dataset, lambda fetched: views.fetched(fetched, into))


@data.command(context_settings=CONTEXT)
@DATASET
@with_io
def remove(io: Io, *, dataset: str) -> None:
    """Keep a dataset no longer. Jobs that are under way still get it.

    \b
    dms data remove photos
    """
    from dms.cli.views import data as views  # noqa: PLC0415
    from dms.rpc.api.data import Dataset, DatasetParams  # noqa: PLC0415

    with io.node() as node:
        io.show(node.call("data.remove", DatasetParams(dataset), Dataset), views.removed)
