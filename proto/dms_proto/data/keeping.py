"""Which blobs go when there are too many: those unused longest, and never one that is needed."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

import msgspec

from dms_proto.ids import Digest


class Kept(msgspec.Struct, frozen=True, order=True):
    """A blob, or what there is of one: when it was last used (Unix ms), its digest, and its size in bytes."""

    used_at: int
    digest: Digest
    size: int


def victims(there: Iterable[Kept], pinned: AbstractSet[Digest], old: int, recent: int, largest: int) -> list[Kept]:
    """What is to be removed: all that was last used before `old`, then the longest unused while there are more than `largest` bytes.

    Args:
        there: all that is kept.
        pinned: stay.
        old: Unix ms.
        recent: Unix ms; what was used since stays.
        largest: bytes.
    """
    in_order = sorted(there)
    total = sum(kept.size for kept in in_order)
    gone: list[Kept] = []
    for kept in in_order:
        is_free = kept.digest not in pinned and kept.used_at < recent
        if is_free and (kept.used_at < old or total > largest):
            gone.append(kept)
            total -= kept.size
    return gone
