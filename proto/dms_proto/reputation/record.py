"""The evidence on all providers, with one bound: what many identities of one source earn, they share.

A good observation counts whole while the *other* identities of its source have done for at most `SOURCE_POINTS`; beyond, by the square of the
proportion less. So all identities of a crowded source together never hold more than twice `SOURCE_POINTS`, however many they are and however much
they do, and one machine that works alone for years is never held back. What is held against a provider always counts whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from dms_proto.ids import PeerId
from dms_proto.reputation.evidence import NOTHING_KNOWN, POINTS, WHOLE, Evidence, Kind, fade, merged, noted

SOURCE_POINTS: Final = 100 * WHOLE
"""Thousandths of a point that the others of a source may have worked for before one more counts less."""


class Record:
    """What a node has seen of every provider. A fold of its log; grows only with work it has itself given out. Not shared between threads."""

    def __init__(self) -> None:
        self._providers: dict[PeerId, Evidence] = {}
        self._sources: dict[str, tuple[int, int]] = {}
        """Per source: thousandths of points that its identities have worked for, and Unix ms up to which they are faded."""

    def of(self, provider: PeerId) -> Evidence:
        """The evidence on a provider."""
        return self._providers.get(provider, NOTHING_KNOWN)

    def all(self) -> Mapping[PeerId, Evidence]:
        """The evidence on every provider, as it is now."""
        return dict(self._providers)

    def note(self, provider: PeerId, source: str, kind: Kind, at: int) -> None:
        """One more observation of a provider at `source` (see `sources`), at Unix ms."""
        evidence = self.of(provider)
        worked = fade(evidence.worked, at - evidence.at) if evidence.source == source else 0
        gain = max(POINTS[kind], 0) * WHOLE
        amount = self._share(source, worked, at) if gain else WHOLE
        self._providers[provider] = noted(evidence, kind, at, amount=amount, source=source, worked=worked + gain)
        if gain:
            self._sources[source] = (self._total(source, at) + gain, at)

    def inherit(self, old: PeerId, new: PeerId) -> None:
        """A provider has a new name: what was seen of it under the old one is known of the new one."""
        evidence = self._providers.pop(old, None)
        if evidence is not None:
            self._providers[new] = merged(evidence, self._providers[new]) if new in self._providers else evidence

    def _share(self, source: str, worked: int, at: int) -> int:
        """What a good observation counts, in thousandths, for one who has itself worked for so much of its source's total."""
        others = self._total(source, at) - worked
        return WHOLE * SOURCE_POINTS**2 // max(SOURCE_POINTS, others) ** 2

    def _total(self, source: str, at: int) -> int:
        total, since = self._sources.get(source, (0, at))
        return fade(total, at - since)
