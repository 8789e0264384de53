"""Loads the comparators that other packages bring: entry points of the group `dms.comparators`, as the node starts."""

from __future__ import annotations

import importlib.metadata
import logging
from typing import cast

from dms_proto.errors import UserError
from dms_proto.market.comparator import Comparator
from dms_proto.market.comparators import GROUP, Installed, check_comparator

log = logging.getLogger(__name__)


def load_comparators() -> dict[str, Installed]:
    """Every comparator installed in this environment, by name. One that does not load is in it with its error: whoever names it hears it."""
    found = [_load(point) for point in importlib.metadata.entry_points(group=GROUP)]
    for plugin in found:
        if plugin.error:
            log.warning("the comparator %s did not load: %s", plugin.made_by, plugin.error)
        else:
            log.info("the comparator %s is here", plugin.made_by)
    return {plugin.name: plugin for plugin in found}


def check_configured(name: str) -> None:
    """Refuses a setting `provider.comparator` that cannot be obeyed.

    Raises:
        UserError: `bad_config`.
    """
    try:
        check_comparator(name)
    except UserError as error:
        raise UserError("bad_config", f"provider.comparator: {error.message}", hint=error.hint) from error


def _load(point: importlib.metadata.EntryPoint) -> Installed:
    version = point.dist.version if point.dist is not None else ""
    try:
        return Installed(point.name, version, _made(point.load()))
    except Exception as error:  # noqa: BLE001 - somebody else's code
        return Installed(point.name, version, None, f"{type(error).__name__}: {error}"[:200])


def _made(loaded: object) -> Comparator:
    """A comparator from what an entry point names: a class is called without arguments, anything else is one already."""
    made = loaded() if isinstance(loaded, type) else loaded
    for name in ("compare", "rank"):
        if not callable(getattr(made, name, None)):
            raise TypeError(f"{loaded!r} has no {name}(); see docs/guides/comparators.md")
    return cast("Comparator", made)
