"""Amounts of credits as people type them."""

from __future__ import annotations

from dms_proto.errors import UserError
from dms_proto.units import MicroCredits, parse_credits


def credits_in(text: str, what: str, or_else: str = "") -> MicroCredits:
    """So many credits; `what`: the argument or option, `or_else`: what might have been said instead.

    Raises:
        UserError: `bad_argument`.
    """
    try:
        return parse_credits(text)
    except ValueError as error:
        raise UserError("bad_argument", f"{what}: {error}{or_else}") from error
