"""The named terms of a preference: one file each, one criterion each.

A term prepares itself for a request and then values each candidate from 0 (worst) to `SCALE` (best); `spare_gpu` alone is a penalty, from -`SCALE`
to 0. A value depends on the request and the candidate only, never on the other bids: so a bid that gets better in any respect cannot
fall behind one that did not change, whoever else takes part. Values are integers: the same inputs give the same order, bit for bit.

Unlike things are never added raw. Each term measures in its own unit against a fixed reference (the maximum price, the reference core, 20 ms)
or as the job's share of the machine, and only then are the values weighed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dms_proto.market.candidates import Candidate
from dms_proto.market.terms.chance import chance
from dms_proto.market.terms.data import data
from dms_proto.market.terms.evenness import evenness
from dms_proto.market.terms.fit import fit
from dms_proto.market.terms.memory import memory
from dms_proto.market.terms.own_machines import own_machines
from dms_proto.market.terms.price import price
from dms_proto.market.terms.proximity import proximity
from dms_proto.market.terms.reliability import reliability
from dms_proto.market.terms.scale import SCALE
from dms_proto.market.terms.spare_gpu import spare_gpu
from dms_proto.market.terms.speed import speed
from dms_proto.messages import BidRequest

Value = Callable[[Candidate], int]

TERMS: Final[Mapping[str, Callable[[BidRequest], Value]]] = {
    "price": price,
    "speed": speed,
    "memory": memory,
    "proximity": proximity,
    "reliability": reliability,
    "chance": chance,
    "own_machines": own_machines,
    "fit": fit,
    "data": data,
    "evenness": evenness,
    "spare_gpu": spare_gpu,
}
"""Every term by its name in a preference document."""

PENALTIES: Final = frozenset({"spare_gpu"})
"""Terms of 0 or less: they take away from a score."""
UNCOUNTED: Final = PENALTIES | {"chance"}
"""Terms that do not count in what a perfect bid would score: there is nothing to gain in them but what another term lacks."""

__all__ = ["PENALTIES", "SCALE", "TERMS", "UNCOUNTED", "Value"]
