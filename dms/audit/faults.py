"""What can be wrong with a file, by name."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class FaultCode(StrEnum):
    """What is wrong. Stable: a code never changes its meaning."""

    MALFORMED = "malformed"
    """A line, event or frame cannot be read."""
    CHANGED = "changed"
    """Something is not what was written, sealed or signed."""
    MISSING = "missing"
    """A line, an event, or a signed frame that what happened asks for, is not there."""
    REPEATED = "repeated"
    """A line or event is there twice."""
    REORDERED = "reordered"
    """A line, event or frame stands behind one it came before."""
    UNSEALED = "unsealed"
    """The exporter's seal is not at the end."""
    BAD_SIGNATURE = "bad_signature"
    """A frame is not what its sender has signed."""
    WRONG_SIGNER = "wrong_signer"
    """Somebody has signed what was another's to sign."""
    REPLAYED = "replayed"
    """A frame is there twice: one envelope counts once."""
    FOREIGN = "foreign"
    """An event or frame is about another job or tab."""
    EXPIRED = "expired"
    """A frame was taken when its time was over, or a bid after its validity."""
    TERMS_DIFFER = "terms_differ"
    """A commit or acknowledgement is not for the terms of its bid."""
    SEAL_DIFFERS = "seal_differs"
    """A bid is not what its sender had sealed."""
    PRICE_UNPROVEN = "price_unproven"
    """A second price does not follow from the list of sealed bids."""
    FIGURES_DIFFER = "figures_differ"
    """Ids or amounts in two places that should be the same are not."""


class Fault(msgspec.Struct, frozen=True):
    """Something wrong.

    Attributes:
        code: what.
        line: of the file, from 1; the nearest, where none is to blame alone.
        detail: the same for a person.
    """

    code: FaultCode
    line: int
    detail: str
