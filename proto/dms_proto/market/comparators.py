"""The comparators there are besides the one of dms: plug-ins by name, and what is done when one is missing or fails.

The process that loads plug-ins installs them once, before any machine decides; from then on this table is code, as the table of terms is.
A plug-in is somebody else's code: it may fail, and then dms compares itself, and the decision says so. Each decision names the comparator that
made it, so that it can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from dms_proto.capability import Capability, Resources
from dms_proto.errors import UserError
from dms_proto.market.candidates import Candidate
from dms_proto.market.comparator import Comparator
from dms_proto.market.preferences import Preferences
from dms_proto.market.ranking import Decision, Ranking, rank
from dms_proto.messages import BidRequest, Clause

GROUP: Final = "dms.comparators"
"""The entry point group."""


class Installed(msgspec.Struct, frozen=True):
    """A plug-in comparator.

    Attributes:
        name: of its entry point: what preferences say.
        version: of the distribution it came with.
        comparator: it; None when it could not be loaded.
        error: why not.
    """

    name: str
    version: str
    comparator: Comparator | None
    error: str = ""

    @property
    def made_by(self) -> str:
        """``nearest-first 1.2``: as decisions name it."""
        return f"{self.name} {self.version}"


_INSTALLED: dict[str, Installed] = {}


def install(found: Mapping[str, Installed]) -> None:
    """Makes these the plug-ins there are."""
    _INSTALLED.clear()
    _INSTALLED.update(found)


def check_comparator(name: str) -> None:
    """Refuses the name of a comparator that cannot be used; empty is the comparator of dms.

    Raises:
        UserError: `bad_argument`: it is not installed, or did not load.
    """
    if not name or (name in _INSTALLED and _INSTALLED[name].comparator is not None):
        return
    if name in _INSTALLED:
        raise UserError("bad_argument", f"the comparator {name!r} did not load: {_INSTALLED[name].error}")
    known = ", ".join(sorted(_INSTALLED)) or "none"
    hint = f"install the package with its entry point {GROUP} and restart the node; installed: {known}"
    raise UserError("bad_argument", f"no comparator {name!r} is installed", hint=hint)


def choose(request: BidRequest, candidates: Sequence[Candidate], preferences: Preferences) -> Decision:
    """Ranks by the comparator that the preferences name, or by that of dms, and keeps what it ranked by. Never raises."""
    seen = tuple(candidates)
    made_by, note, ranking = "", "", None
    if preferences.comparator:
        plugin = _INSTALLED.get(preferences.comparator)
        ranking, note = _rank_by(plugin, request, seen, preferences)
        made_by = plugin.made_by if plugin is not None and ranking is not None else ""
    if ranking is None:
        ranking = rank(request, seen, preferences)
    return Decision(request, seen, preferences, ranking, made_by, note)


def replay(decision: Decision) -> Ranking:
    """The ranking computed again from a decision's record, by the comparator that made it; equal to the one in it.

    Raises:
        UserError: `not_found`: that comparator is not there any more, or fails now.
    """
    if not decision.comparator:
        return rank(decision.request, decision.candidates, decision.preferences)
    plugin = _INSTALLED.get(decision.comparator.rpartition(" ")[0])
    ranking, note = _rank_by(plugin, decision.request, decision.candidates, decision.preferences)
    if ranking is None:
        raise UserError("not_found", f"{decision.comparator} made this decision; {note}")
    return ranking


def judge_by(name: str, required: Capability, offered: Capability, total: Resources, price: int) -> tuple[Clause, ...]:
    """What a provider's plug-in has against a request. One that is missing or fails is against all: its owner wanted to be asked."""
    plugin = _INSTALLED.get(name)
    wanted = f"what the comparator {name} lets pass"
    if plugin is None or plugin.comparator is None:
        return (Clause("policy", wanted, "it is not installed here" if plugin is None else plugin.error),)
    try:
        comparison = plugin.comparator.compare(required, offered, total=total, max_price=price)
        return tuple(verdict.clause for verdict in comparison.dimensions if verdict.clause is not None)
    except Exception as error:  # noqa: BLE001 - somebody else's code
        return (Clause("policy", wanted, f"it failed: {_told(error)}"),)


def _rank_by(
    plugin: Installed | None, request: BidRequest, seen: tuple[Candidate, ...], preferences: Preferences
) -> tuple[Ranking | None, str]:
    """The plug-in's ranking, or None and why it cannot be used."""
    if plugin is None:
        return None, "it is not installed here"
    if plugin.comparator is None:
        return None, f"it did not load: {plugin.error}"
    try:
        ranking = plugin.comparator.rank(request, seen, preferences)
        return (None, f"{plugin.made_by} {wrong}") if (wrong := _fault(ranking, seen)) else (ranking, "")
    except Exception as error:  # noqa: BLE001 - somebody else's code
        return None, f"{plugin.made_by} failed: {_told(error)}"


def _fault(ranking: Ranking, seen: tuple[Candidate, ...]) -> str:
    """What makes a ranking unusable; empty when nothing does."""
    if not isinstance(ranking, Ranking):
        return f"gave a {type(ranking).__name__} instead of a Ranking"
    given = sorted(
        [(entry.bid_id, entry.provider) for entry in ranking.ranked]
        + [(left_out.bid_id, left_out.provider) for left_out in ranking.excluded]
    )
    if given != sorted((candidate.bid_id, candidate.provider) for candidate in seen):
        return "did not place each bid once"
    if ranking.unit <= 0 or any(len(entry.points) != len(ranking.terms) for entry in ranking.ranked):
        return "gave scores that do not fit its terms"
    return ""


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
