"""fit: how little of the machine is left idle beside the job; best fit keeps large machines free for large jobs.

What this requester has at work there counts as free, as if each allocation were as large as this one: the job would otherwise go where the last
one went, until that is full.
"""

from __future__ import annotations

from collections.abc import Callable

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.scale import SCALE
from dms_proto.messages import BidRequest


def fit(request: BidRequest) -> Callable[[Candidate], int]:
    """The job's share of what is free, averaged over the dimensions it asks for.

    Each dimension is a fraction before they are averaged: added up raw, bytes of memory would drown everything else. Only for bids that fit:
    then nothing that is asked for is missing, and no share is more than one.
    """
    needs = request.needs.resources
    cpu, memory, disk = SCALE * needs.cpu_millicores, SCALE * needs.memory_bytes, SCALE * needs.disk_bytes
    gpu = SCALE * sum(need.milli for need in needs.gpus)
    asked = sum(1 for amount in (cpu, memory, disk, gpu) if amount) or 1

    def value(candidate: Candidate) -> int:
        there, mine = candidate.offer.resources, candidate.at_work
        shares = 0
        if cpu:
            shares += cpu // (there.cpu_millicores + mine * needs.cpu_millicores)
        if memory:
            shares += memory // (there.memory_bytes + mine * needs.memory_bytes)
        if disk:
            shares += disk // (there.disk_bytes + mine * needs.disk_bytes)
        if gpu:
            shares += gpu // (sum(device.milli for device in there.gpus) + mine * gpu // SCALE)
        return shares // asked

    return value
