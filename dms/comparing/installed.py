"""Which result comparators there are, by name. A plug-in is found by what is known of its package; its code is loaded only where it runs."""

from __future__ import annotations

import importlib.metadata
from typing import Final, NamedTuple

from dms import __version__
from dms_proto.errors import UserError
from dms_proto.verification.comparing import split_name
from dms_proto.verification.policy import HASH

GROUP: Final = "dms.result_comparators"
"""The entry point group."""
BUILT_IN: Final = {
    "json": "dms.comparing.json_values:JsonValues",
    "lines": "dms.comparing.lines:Lines",
    "numbers": "dms.comparing.numbers:Numbers",
}
"""By name: where they are, as in an entry point. No plug-in takes their names, nor `HASH`."""


class Installed(NamedTuple):
    """A comparator: its name, its version, where its class is (``module:attribute``), and the parameter that a job declares for it."""

    name: str
    version: str
    target: str
    parameter: str = ""


def chosen(comparator: str) -> Installed:
    """The comparator that a job declares. Reads the disk.

    Raises:
        UserError: `bad_job`: there is none of that name.
    """
    name, parameter = split_name(comparator)
    if name == HASH:
        raise UserError(
            "bad_job", f"verify.comparator: {HASH} takes no parameter", hint=f"write {HASH} alone, or leave it out"
        )
    there = {each.name: each for each in installed()}
    if name not in there:
        hint = f"there are {', '.join((HASH, *sorted(there)))}; a package brings more by an entry point of the group {GROUP}"
        raise UserError("bad_job", f"verify.comparator: no comparator {name!r} for results is installed", hint=hint)
    return there[name]._replace(parameter=parameter)


def installed() -> tuple[Installed, ...]:
    """All but `HASH`, which compares nothing but digests."""
    built_in = [Installed(name, __version__, target) for name, target in BUILT_IN.items()]
    found = (
        Installed(point.name, point.dist.version if point.dist is not None else "", point.value)
        for point in importlib.metadata.entry_points(group=GROUP)
    )
    return (*built_in, *(plugin for plugin in found if plugin.name not in BUILT_IN and plugin.name != HASH))
