"""How the work of each provider went for this node: (successes, failures) by name."""

from __future__ import annotations

from dms_proto.ids import PeerId


def add_trust(trust: dict[PeerId, tuple[int, int]], provider: PeerId, successes: int, failures: int) -> None:
    """Adds to a provider's counts."""
    before = trust.get(provider, (0, 0))
    trust[provider] = (before[0] + successes, before[1] + failures)
