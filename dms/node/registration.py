"""The capability that a node registers: what it was locked at, against what is found now."""

from __future__ import annotations

import msgspec

from dms.config import Config
from dms_proto.capability import Capability


def merged_capability(registered: Capability, proposed: Capability, config: Config) -> Capability:
    """What to register at a start.

    Amounts stay as they were locked at onboarding, unless the owner set them since or the machine shrank; everything that was proven or
    configured anew is taken from the proposal.
    """
    if registered == Capability():
        return proposed
    old, new, wish = registered.resources, proposed.resources, config.provider
    resources = msgspec.structs.replace(
        new,
        cpu_millicores=new.cpu_millicores if wish.cpu is not None else min(old.cpu_millicores, new.cpu_millicores),
        memory_bytes=new.memory_bytes if wish.memory is not None else min(old.memory_bytes, new.memory_bytes),
        disk_bytes=new.disk_bytes if wish.disk is not None else min(old.disk_bytes, new.disk_bytes),
    )
    return msgspec.structs.replace(proposed, resources=resources, cpu_score=proposed.cpu_score or registered.cpu_score)
