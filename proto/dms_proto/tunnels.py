"""Tunnels: how long an opening may be, and what a refusal may say. Pure."""

from __future__ import annotations

from typing import Final

from dms_proto.errors import PeerError, UserError
from dms_proto.rules import MAX_LINE
from dms_proto.units import KIB, format_count

MAX_OPENING: Final = 4 * KIB
"""Bytes of what says to what a tunnel shall lead."""
REFUSALS: Final = frozenset({"not_found", "bad_argument", "peer_unreachable", "peer_timeout"})
"""Codes that a peer may refuse with; any other word of a stranger is heard as `peer_unreachable`."""


def check_length(opening: bytes) -> None:
    """Refuses an opening that no peer would read.

    Raises:
        UserError: `bad_argument`.
    """
    if len(opening) > MAX_OPENING:
        size = format_count(len(opening), "byte")
        raise UserError("bad_argument", f"the opening of a tunnel has {size}, {MAX_OPENING} are the most")


def refused(code: str, message: str) -> PeerError:
    """What the opener is told. Asking again may help, unless it asked for what is not there."""
    known = code if code in REFUSALS else "peer_unreachable"
    return PeerError(known, message[:MAX_LINE], retryable=known not in ("not_found", "bad_argument"))
