"""The golden vectors of `proto/vectors`: what their files hold, and reading them.

``kinds/KIND.NAME.json`` is a frame and its meaning; ``refused/CODE.NAME.json`` a frame that is refused, and the circumstances. `proto/README.md`
describes the fields for other implementations. In JSON, byte strings inside a message are base64 and all others hexadecimal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec

from dms_proto.ids import PeerId
from dms_proto.wire import OpeningContext, RefusalCode, ReplayWindow, take_always
from dms_proto.wire.buckets import KindClass

VECTORS: Final = Path(__file__).parents[2] / "proto" / "vectors"


class KindVector(msgspec.Struct, frozen=True):
    """A frame and what it says.

    Attributes:
        kind: of the message.
        seed: the sender's Ed25519 seed. Published: never use it.
        id, to, topic, cause, sent_ms, expires_ms, auth: as in the envelope.
        message: the fields of the message that differ from their defaults.
        body: the message's bytes.
        frame: the whole frame.
    """

    kind: str
    seed: str
    id: str
    to: str
    topic: str
    cause: str
    sent_ms: int
    expires_ms: int
    auth: str
    message: dict[str, Any]
    body: str
    frame: str


class Window(msgspec.Struct, frozen=True):
    """Bounds of the replay windows."""

    per_sender: int = 8_192
    total: int = 65_536
    senders: int = 4_096


class RefusalVector(msgspec.Struct, frozen=True, omit_defaults=True):
    """A frame that is refused.

    Attributes:
        code: the refusal.
        why: in words.
        me: the receiver.
        via: who delivered the frame.
        topic: the topic it came on; empty for a direct stream.
        topics: topics taken from direct streams.
        now: the receiver's clock.
        has_tokens: whether the deliverer may still send.
        source_has_tokens: whether all from where it is may.
        window: bounds of the replay windows.
        before: frames opened, and accepted, just before.
        frame: the refused one.
    """

    code: RefusalCode
    why: str
    me: PeerId
    via: PeerId
    topic: str
    topics: tuple[str, ...]
    now: int
    has_tokens: bool
    window: Window
    before: tuple[str, ...]
    frame: str
    source_has_tokens: bool = True

    def context(self) -> OpeningContext:
        """The circumstances, fresh: nothing seen yet."""
        window = msgspec.structs.asdict(self.window)
        return OpeningContext(
            me=self.me,
            via=self.via,
            replay=ReplayWindow(**window),
            gossip_replay=ReplayWindow(**window),
            topic=self.topic,
            topics=frozenset(self.topics),
            take=take_always if self.has_tokens else _no_tokens,
            take_from_source=take_always if self.source_has_tokens else _no_tokens,
        )


def kind_vectors(folder: Path = VECTORS) -> dict[str, KindVector]:
    """Every accepted vector by its file's name."""
    return {
        path.stem: msgspec.json.decode(path.read_bytes(), type=KindVector)
        for path in sorted(folder.glob("kinds/*.json"))
    }


def refusal_vectors(folder: Path = VECTORS) -> dict[str, RefusalVector]:
    """Every refused vector by its file's name."""
    return {
        path.stem: msgspec.json.decode(path.read_bytes(), type=RefusalVector)
        for path in sorted(folder.glob("refused/*.json"))
    }


def _no_tokens(_peer: PeerId, _class: KindClass, _now: int) -> bool:
    return False
