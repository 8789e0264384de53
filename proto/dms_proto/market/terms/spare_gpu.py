"""spare_gpu: a penalty for putting a job that needs no GPU on a machine whose GPU is free."""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest


def spare_gpu(request: BidRequest) -> Callable[[Candidate], int]:
    """Minus one for a CPU job on a machine with a free GPU, else zero.

    With a weight of at least all others together, a CPU job takes such a machine only when nothing else bids.
    """
    if request.needs.resources.gpus:
        return lambda _candidate: 0
    return lambda candidate: -SCALE if candidate.offer.resources.gpus else 0
