"""Which kinds of tasks there are. A plug-in is looked up by what is known of its package, and loaded when it is asked for."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from dms import __version__
from dms.jobs.problems import nearest
from dms.kinds import Kind
from dms.kinds.builtin import BUILT_IN
from dms_proto.errors import UserError

GROUP: Final = "dms.tasks"
"""The entry point group."""


class Installed(NamedTuple):
    """A kind by its name, with the package it is of, and that one's version; `failed`: why it cannot be used."""

    name: str
    package: str
    version: str
    kind: Kind | None
    failed: str = ""


def installed() -> tuple[Installed, ...]:
    """All kinds, the built-in ones first. Loads the plug-ins."""
    built_in = (Installed(name, "dms", __version__, kind) for name, kind in BUILT_IN.items())
    return (*built_in, *(_loaded(point) for point in _plug_ins()))


def kind_called(name: str) -> Kind:
    """The kind of this name. Loads it alone.

    Raises:
        UserError: `not_found`: there is none; `bad_argument`: its package cannot be used.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    points = {point.name: point for point in _plug_ins()}
    if name not in points:
        raise UserError(
            "not_found",
            f"there is no kind of task {name!r}; {nearest(name, (*BUILT_IN, *points))}",
            hint=f"dms task kinds lists them; a package brings more by an entry point of the group {GROUP}",
        )
    found = _loaded(points[name])
    if found.kind is None:
        raise UserError("bad_argument", f"the kind of task {name!r}, of the package {found.package}, {found.failed}")
    return found.kind


def _plug_ins() -> Iterator[importlib.metadata.EntryPoint]:
    points = importlib.metadata.entry_points(group=GROUP)
    return (point for point in points if point.name not in BUILT_IN)


def _loaded(point: importlib.metadata.EntryPoint) -> Installed:
    package, version = (point.dist.name, point.dist.version) if point.dist is not None else ("", "")
    try:
        kind = point.load()
        if isinstance(kind, Kind):
            msgspec.json.schema(kind.parameters)  # its types can be told
            return Installed(point.name, package, version, kind)
        failed = f"is a {type(kind).__name__} at {point.value}, where a dms.kinds.Kind belongs"
    except Exception as error:  # noqa: BLE001 - somebody else's code
        failed = f"cannot be loaded from {point.value}: {type(error).__name__}: {error}"
    return Installed(point.name, package, version, None, failed)
