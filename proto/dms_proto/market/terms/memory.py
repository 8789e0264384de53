"""memory: how much room there is beyond what the job asks; GPU memory for a GPU job, main memory for any other."""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.market.candidates import Candidate
from dms_proto.market.gpus import serves
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest
from dms_proto.units import GIB


def memory(request: BidRequest) -> Callable[[Candidate], int]:
    """One half when there is just what is asked (at least 1 GiB), two thirds at twice that, and so on towards one.

    A GPU job is never valued by free main memory: gigabytes of the two kinds are not the same thing, though both are bytes.
    """
    return _gpu_memory(request) if request.needs.resources.gpus else _main_memory(request)


def _main_memory(request: BidRequest) -> Callable[[Candidate], int]:
    asked = max(request.needs.resources.memory_bytes, GIB)

    def value(candidate: Candidate) -> int:
        there = candidate.offer.resources.memory_bytes
        return SCALE * there // (there + asked)

    return value


def _gpu_memory(request: BidRequest) -> Callable[[Candidate], int]:
    needs = request.needs.resources.gpus
    asked = max(sum(need.memory_bytes for need in needs), GIB)

    def value(candidate: Candidate) -> int:
        usable = [
            device.memory_bytes
            for device in candidate.offer.resources.gpus
            if any(serves(need, device) for need in needs)
        ]
        there = sum(sorted(usable, reverse=True)[: len(needs)])
        return SCALE * there // (there + asked)

    return value
