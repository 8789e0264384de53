"""What may come to be owed to one provider: worked out by `obligations`, heeded by the auction."""

from __future__ import annotations

import msgspec


class Purse(msgspec.Struct, frozen=True):
    """What may come to be owed to one provider, in micro-credits.

    Attributes:
        most: for this request, all it has come to owe the provider included, if nothing else of this node were at work there.
        elsewhere: what other requests of this node have at work there, as if all of it ran to its limit.
    """

    most: int
    elsewhere: int = 0
