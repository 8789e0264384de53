"""Messages about data: what work reads, and who has it.

A provider that has to fetch much asks the requester who else holds it, and fetches from all of them::

    PROVIDER                         REQUESTER                        HOLDER
       │ HoldersWanted ────────────────▶ │                               │
       │                                 │ Serve {reader: PROVIDER} ────▶│ what this requester has brought here, and nothing else,
       │ ◀─────────────────── Holders ── │                               │ may be read by that node from now on
       │                                                                 │
       └───────────────────── blobs ────────────────────────────────────▶│

A requester that names a dataset of another node asks its peers for it::

    DatasetWanted ──▶ each        by a mark: who does not hold it learns nothing
                  ◀── DatasetHeld those that share it
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from dms_proto.messages.base import KnownPeer, Message
from dms_proto.rules import Amount, GoodAllocationId, GoodPeerId, GoodRequestId
from dms_proto.work import MAX_MANIFEST

MARK_BYTES: Final = 16
MAX_MARKS: Final = 4
"""Contents of which a request tells that its work will read them: the largest."""


Mark = Annotated[bytes, msgspec.Meta(min_length=MARK_BYTES, max_length=MARK_BYTES)]


class DataMark(msgspec.Struct, frozen=True):
    """A content that the work reads, for nobody to see but who holds it.

    Attributes:
        mark: `data.marks.mark_of` the content.
        size: bytes of it.
    """

    mark: Mark
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


class DatasetWanted(Message, frozen=True, tag=True):
    """Who shares this dataset? Who does not stays silent.

    Attributes:
        request_id: of the question alone: no job is about it yet.
        mark: `data.marks.mark_of` the dataset.
    """

    request_id: GoodRequestId
    mark: Mark


class DatasetHeld(Message, frozen=True, tag=True):
    """I share it: whoever knows its id may fetch it from me.

    Attributes:
        request_id: of the question.
        size: bytes of its manifest.
    """

    request_id: GoodRequestId
    size: Annotated[int, msgspec.Meta(ge=0, le=MAX_MANIFEST)]
