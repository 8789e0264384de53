"""Who may have a share of a GPU: machines of the provider's own owner.

What two programs share of a device is kept apart by the driver alone: neither memory nor faults are bounded by hardware. So a stranger gets whole
devices, or hardware instances (MIG), which count as whole; a share is for those whose programs would do each other no harm. It names its
memory, so that shares of one device add up in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from dms_proto.capability import Gpu
from dms_proto.market.changes import show_thousandths
from dms_proto.messages import Clause
from dms_proto.units import GPU

DIMENSION: Final = "gpu_share"


def share_clauses(needs: tuple[Gpu, ...], *, own: bool) -> Iterator[Clause]:
    """Why shares are not given, or nothing.

    Args:
        needs: as a request writes them.
        own: whether who asks is a machine of this node's owner.
    """
    shares = [need for need in needs if need.milli < GPU]
    if not shares:
        return
    wanted = f"{show_thousandths(min(need.milli for need in shares))} of a GPU"
    if not own:
        why = "shares are for machines of the same owner: hardware does not keep them apart"
        yield Clause(DIMENSION, wanted, why, "a whole GPU, or a grant for own machines")
    elif any(not need.memory_bytes for need in shares):
        yield Clause(DIMENSION, wanted, "it names no memory of the device", "the memory it may use")
