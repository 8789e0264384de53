"""The gate: frames in, messages out. Opens envelopes, keeps replay windows, rate limits and scores, counts refusals, answers some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from dms_proto.ids import PeerId
from dms_proto.messages import Refusal
from dms_proto.wire import (
    SOURCE_LIMITS,
    ClassBuckets,
    Envelope,
    KindClass,
    Offence,
    OpeningContext,
    RefusedFrame,
    ReplayWindow,
    Scores,
    answer_to,
    misdeed,
    open_frame,
)


class Muted(NamedTuple):
    """A peer has done too much wrong: it is not listened to for a while. `offence`: the last of what it did."""

    peer: PeerId
    offence: Offence


class Gate:
    """One per node; lives on the actors' thread."""

    def __init__(
        self,
        me: PeerId,
        topic: str,
        count: Callable[[str, str], None],
        scores: Scores | None = None,
        source_of: Callable[[PeerId], str] = lambda _peer: "",
    ) -> None:
        """`source_of` tells where a peer comes from: all from there share a rate limit as well."""
        self._me = me
        self._topic = topic
        self._topics = frozenset({topic})
        self._replay = ReplayWindow()
        self._gossip_replay = ReplayWindow()
        self._buckets: ClassBuckets[PeerId] = ClassBuckets()
        self._source_buckets: ClassBuckets[str] = ClassBuckets(SOURCE_LIMITS)
        self._source_of = source_of
        self._scores = Scores() if scores is None else scores  # those of nobody yet are empty
        self._count = count
        self.refused: Counter[str] = Counter()

    def open(self, frame: bytes, via: PeerId, topic: str, now: int) -> Envelope | Refusal | Muted | None:
        """The envelope in a frame; or the refusal to answer it with; or who is muted for it; or nothing: an answer would only help an attacker."""
        context = OpeningContext(
            me=self._me,
            via=via,
            replay=self._replay,
            gossip_replay=self._gossip_replay,
            topic=topic,
            topics=self._topics,
            take=self._take,
            take_from_source=self._take_from_source,
        )
        opened = open_frame(frame, context, now)
        if isinstance(opened, RefusedFrame):
            self.refused[opened.code] += 1
            self._count("frames_refused", opened.code)
            blamed = misdeed(opened, context)
            muted = self.blame(*blamed, now) if blamed is not None else None
            return muted or answer_to(opened, context, now)
        return opened

    def blame(self, peer: PeerId, offence: Offence, now: int) -> Muted | None:
        """Counts an offence against a peer; `Muted` if it was one too many."""
        if not self._scores.blame(peer, offence, now):
            return None
        self._count("peers_muted", offence)
        return Muted(peer, offence)

    def inherit(self, old: PeerId, new: PeerId, now: int) -> None:
        """A peer has a new name: it stays muted, and what it did still counts."""
        self._scores.inherit(old, new, now)

    def _take(self, peer: PeerId, kind_class: KindClass, now: int) -> bool:
        """Who is muted has no tokens: so what it sent before its connection closed, and its gossip by way of others, goes no further."""
        return not self._scores.is_muted(peer, now) and self._buckets.take(peer, kind_class, now)

    def _take_from_source(self, peer: PeerId, kind_class: KindClass, now: int) -> bool:
        return self._source_buckets.take(self._source_of(peer), kind_class, now)
