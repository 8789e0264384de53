"""What one request can want done, beside messages to its providers."""

from __future__ import annotations

from dms_proto.ids import PeerId
from dms_proto.machine import Effect
from dms_proto.market.auction_terms import Given
from dms_proto.messages import AllocationStatus, BidRequest
from dms_proto.reputation.silence import Word


class Announce(Effect, frozen=True):
    """Ask the market: whom and how, `membership.audience` decides; then say `Announced`."""

    request: BidRequest


class Collect(Effect, frozen=True):
    """Fetch and verify what an ended allocation left: logs and outputs; then say `Collected`."""

    provider: PeerId
    status: AllocationStatus


class Compare(Effect, frozen=True):
    """Ask a comparator which answers of a piece of work are the same (`verification.comparing`); then say `Compared`."""

    piece: int
    comparator: str
    founders: tuple[Given, ...]
    fresh: tuple[Given, ...]


class LetDown(Effect, frozen=True):
    """A provider said nothing in time about a bid of its own that was taken, or an allocation it acknowledged: remember it, for other requests.

    Attributes:
        provider: it.
        word: what was waited for.
        about: what it could have said, any of which would have done; see `reputation.silence`.
        since, at: Unix ms at which it was told, and at which it was waited for no longer.
    """

    provider: PeerId
    word: Word
    about: tuple[str, ...]
    since: int
    at: int


class HeardFrom(Effect, frozen=True):
    """A provider has said something of a commit or an allocation of this node, `at` Unix ms: forget, for other requests, that it was silent.

    `took_ms`: how long after its commit, of an answer to one.
    """

    provider: PeerId
    word: Word
    at: int
    took_ms: int | None = None


class Conclude(Effect, frozen=True):
    """The request is over; nothing more will come."""
