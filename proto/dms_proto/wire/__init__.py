"""Envelopes: signed, expiring, replay-proof bytes around a message.

`seal` makes a frame, `open_frame` turns bytes into an `Envelope` or a `RefusedFrame`, `read_frame` one that was kept. Between them stand `signing`
(Ed25519), `encoding` (msgpack with limits), `replay` (what was seen), `buckets` (who sends how much), `refusals` (why not) and `scores` (who is muted
for it). `proto/README.md` says the same in words for other implementations.
"""

from dms_proto.wire.buckets import (
    DEFAULT_LIMITS,
    SOURCE_LIMITS,
    ClassBuckets,
    KindClass,
    Limit,
    TokenBucket,
    kind_class,
)
from dms_proto.wire.envelope import (
    CLOCK_SKEW_MS,
    MAX_DIRECT_FRAME,
    MAX_DIRECT_LIFETIME_MS,
    MAX_GOSSIP_FRAME,
    MAX_GOSSIP_LIFETIME_MS,
    MAX_TASK,
    VERSION,
    Envelope,
    seal,
)
from dms_proto.wire.opening import (
    OpeningContext,
    TakeToken,
    answer_to,
    misdeed,
    open_frame,
    read_frame,
    refuse_unopened,
    take_always,
)
from dms_proto.wire.refusals import RULES, RefusalCode, RefusalRule, RefusedFrame
from dms_proto.wire.replay import ReplayWindow, Seen
from dms_proto.wire.scores import Offence, Scores
from dms_proto.wire.signing import Signer, verify

__all__ = [
    "CLOCK_SKEW_MS",
    "DEFAULT_LIMITS",
    "MAX_DIRECT_FRAME",
    "MAX_DIRECT_LIFETIME_MS",
    "MAX_GOSSIP_FRAME",
    "MAX_GOSSIP_LIFETIME_MS",
    "MAX_TASK",
    "RULES",
    "SOURCE_LIMITS",
    "VERSION",
    "ClassBuckets",
    "Envelope",
    "KindClass",
    "Limit",
    "Offence",
    "OpeningContext",
    "RefusalCode",
    "RefusalRule",
    "RefusedFrame",
    "ReplayWindow",
    "Scores",
    "Seen",
    "Signer",
    "TakeToken",
    "TokenBucket",
    "answer_to",
    "kind_class",
    "misdeed",
    "open_frame",
    "read_frame",
    "refuse_unopened",
    "seal",
    "take_always",
    "verify",
]
