"""What a spot check says of a provider's benchmark, as it is shown with its job and with the peer."""

from __future__ import annotations

import msgspec

from dms_proto.ids import PeerId
from dms_proto.reputation import Kind


class BenchmarkView(msgspec.Struct, frozen=True):
    """The last spot check of a provider.

    Attributes:
        provider: who was checked.
        claimed: the score that it claims, in reference cores.
        measured: the score that was found; 0: none, or no right answer.
        at: Unix ms.
        good: checks in a row that came out as claimed.
        short: checks in a row, the last ones, that did not.
        kind: the evidence that followed: honest, overstated; None: it is in doubt, or nothing was found.
        why: why nothing was measured; empty otherwise.
    """

    provider: PeerId
    claimed: float
    measured: float
    at: int
    good: int = 0
    short: int = 0
    kind: Kind | None = None
    why: str = ""

    def __str__(self) -> str:
        """Claimed, measured, and what follows, in a line."""
        if self.why:
            return f"claims {self.claimed:.2f} reference cores; nothing was measured: {self.why}"
        doubt = f"in doubt, {self.short} short in a row" if self.short else ""
        found = self.kind.value if self.kind is not None else doubt
        return f"claims {self.claimed:.2f} reference cores, {self.measured:.2f} measured: {found}"
