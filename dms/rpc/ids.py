"""What callers name: by short ids, of which a unique part stands for the whole, and by numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from dms_proto.errors import UserError

MIN_CHARACTERS: Final = 2
_SHOWN: Final = 4


def match_id(given: str, known: Iterable[str], what: str) -> str:
    """The one of `known` that is `given`, or begins with it.

    Args:
        given: as a person wrote it.
        known: full ids.
        what: for messages: "job", "allocation".

    Raises:
        UserError: `not_found`, `ambiguous_id` with the candidates.
    """
    ids = list(known)
    if given in ids:
        return given
    found = [id_ for id_ in ids if id_.startswith(given)] if len(given) >= MIN_CHARACTERS else []
    return _only(found, given, what)


def match_peer(given: str, known: Mapping[str, str]) -> str:
    """The PeerID that `given` means: itself, a unique beginning or end of it (as lists show it, "…" or not), or a name.

    Args:
        given: as a person wrote it.
        known: PeerID to name; names need not be unique, but then they do not decide.

    Raises:
        UserError: `not_found`, `ambiguous_id`.
    """
    if given in known:
        return given
    named = [peer for peer, name in known.items() if name == given]
    if named:
        return _only(named, given, "peer")
    part = given.removeprefix("…").removeprefix("...")
    found = (
        [peer for peer in known if peer.startswith(part) or peer.endswith(part)] if len(part) >= MIN_CHARACTERS else []
    )
    return _only(found, given, "peer")


def check_slot(slot: int, slots: int, job: str) -> None:
    """Checks that a job with so many slots has this one.

    Raises:
        UserError: `not_found`.
    """
    if slot >= slots:
        has = "one, slot 0" if slots == 1 else f"the slots 0 to {slots - 1}"
        raise UserError("not_found", f"there is no slot {slot}: job {job} has {has}")


def _only(found: list[str], given: str, what: str) -> str:
    if len(found) == 1:
        return found[0]
    lists = {
        "job": "dms job list",
        "allocation": "dms alloc list",
        "peer": "dms peers list",
        "dataset": "dms data list",
    }
    if not found:
        raise UserError(
            "not_found", f"no {what} {given!r} here", hint=f"{lists[what]} shows them" if what in lists else ""
        )
    shown = ", ".join(sorted(found)[:_SHOWN]) + (", …" if len(found) > _SHOWN else "")
    raise UserError("ambiguous_id", f"{given!r} could be {len(found)} {what}s: {shown}", hint="write more of it")
