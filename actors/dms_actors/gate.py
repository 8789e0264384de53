"""The gate: frames in, messages out. Opens envelopes, keeps replay windows and rate limits, counts refusals, answers some of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dms_proto.ids import PeerId
from dms_proto.messages import Refusal
from dms_proto.wire import Envelope, OpeningContext, PeerBuckets, RefusedFrame, ReplayWindow, answer_to, open_frame


class Gate:
    """One per node; lives on the actors' thread."""

    def __init__(self, me: PeerId, topic: str, count: Callable[[str, str], None]) -> None:
        self._me = me
        self._topic = topic
        self._topics = frozenset({topic})
        self._replay = ReplayWindow()
        self._gossip_replay = ReplayWindow()
        self._buckets = PeerBuckets()
        self._count = count
        self.refused: Counter[str] = Counter()

    def open(self, frame: bytes, via: PeerId, topic: str, now: int) -> Envelope | Refusal | None:
        """The envelope in a frame; or the refusal to answer it with; or nothing, where an answer would only help an attacker."""
        context = OpeningContext(
            me=self._me,
            via=via,
            replay=self._replay,
            gossip_replay=self._gossip_replay,
            topic=topic,
            topics=self._topics,
            take=self._buckets.take,
        )
        opened = open_frame(frame, context, now)
        if isinstance(opened, RefusedFrame):
            self.refused[opened.code] += 1
            self._count("frames_refused", opened.code)
            return answer_to(opened, context, now)
        return opened
