"""Proofs: signed frames, kept as they were sent, that show what was agreed, run and owed. They stand in the stream of their request.

No machine folds them: what they lead to are the events of auction, offer book and allocation beside them.
"""

from __future__ import annotations

from dms_proto.machine import Event


class FrameKept(Event, frozen=True):
    """A signed frame about a job: a request and bid that were taken, a commit, its acknowledgement, a status with an ending, a receipt.

    `heard_at`: Unix ms by this node's clock; 0 for what it sent itself.
    """

    frame: bytes
    heard_at: int = 0
