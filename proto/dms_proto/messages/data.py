"""Messages about data: what work reads, and who has it.

A provider that has to fetch much asks the requester who else holds it, and fetches from all of them::

    PROVIDER                         REQUESTER                        HOLDER
       │ HoldersWanted ────────────────▶ │                               │
       │                                 │ Serve {reader: PROVIDER} ────▶│ what this requester has brought here, and nothing else,
       │ ◀─────────────────── Holders ── │                               │ may be read by that node from now on
       │                                                                 │
       └───────────────────── blobs ────────────────────────────────────▶│

"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from dms_proto.messages.base import KnownPeer, Message
from dms_proto.rules import Amount, GoodAllocationId, GoodPeerId, GoodRequestId

MARK_BYTES: Final = 16
MAX_MARKS: Final = 4
"""Contents of which a request tells that its work will read them: the largest."""


class DataMark(msgspec.Struct, frozen=True):
    """A content that the work reads, for nobody to see but who holds it.

    Attributes:
        mark: `data.marks.mark_of` the content.
        size: bytes of it.
    """

    mark: Annotated[bytes, msgspec.Meta(min_length=MARK_BYTES, max_length=MARK_BYTES)]
    size: Amount


MAX_HOLDERS: Final = 8
"""Nodes named to a provider: with more, each sends so little that the others would have been as fast."""


class HoldersWanted(Message, frozen=True, tag=True):
    """Who else has what this allocation reads? Asked by its provider."""

    request_id: GoodRequestId
    allocation_id: GoodAllocationId


class Holders(Message, frozen=True, tag=True):
    """These may have it, and have been asked to serve it. The requester's answer.

    Attributes:
        holders: them, likeliest first; not the requester.
    """

    request_id: GoodRequestId
    allocation_id: GoodAllocationId
    holders: Annotated[tuple[KnownPeer, ...], msgspec.Meta(max_length=MAX_HOLDERS)] = ()


class Serve(Message, frozen=True, tag=True):
    """Let this node have what I brought to you: it runs work of mine that reads it. What others brought is none of its business, nor of mine.

    Attributes:
        reader: the node.
        data: what it is, as in the bid request of that work: only who holds a content can see that it is meant.
    """

    request_id: GoodRequestId
    reader: GoodPeerId
    data: Annotated[tuple[DataMark, ...], msgspec.Meta(min_length=1, max_length=MAX_MARKS)]
