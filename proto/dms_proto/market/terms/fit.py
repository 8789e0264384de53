"""fit: how little of the machine is left idle beside the job; best fit keeps large machines free for large jobs."""

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

    def usual(candidate: Candidate) -> int:
        there = candidate.offer.resources
        return (cpu // there.cpu_millicores + memory // there.memory_bytes + disk // there.disk_bytes) // 3

    def value(candidate: Candidate) -> int:
        there = candidate.offer.resources
        shares = 0
        if cpu:
            shares += cpu // there.cpu_millicores
        if memory:
            shares += memory // there.memory_bytes
        if disk:
            shares += disk // there.disk_bytes
        if gpu:
            shares += gpu // sum(device.milli for device in there.gpus)
        return shares // asked

    return usual if cpu and memory and disk and not gpu else value
