"""Manifests kept in memory, those used last: of jobs under way, mostly."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from dms_proto.data.manifest import Manifest
from dms_proto.ids import Digest
from dms_proto.units import MIB

MAX_KEPT: Final = 64
MAX_KEPT_BYTES: Final = 16 * MIB
"""As they are encoded; in memory they take some four times that. Each is at most a quarter of it."""


class Known(NamedTuple):
    """What is remembered under a digest.

    Attributes:
        manifest: None: its content is none.
        blobs: that its files are.
        size: bytes of the content.
    """

    manifest: Manifest | None
    blobs: frozenset[Digest]
    size: int


class Manifests:
    """Reads each once as long as there is room for it. May be called on any thread.

    Args:
        read: the content of a blob, decoded; its errors are raised, and not remembered.
    """

    def __init__(self, read: Callable[[Digest], Known]) -> None:
        self._read = read
        self._kept: OrderedDict[Digest, Known] = OrderedDict()
        self._turn = threading.Lock()

    def get(self, digest: Digest) -> Known:
        """What is known of one. Blocks when it was not read lately."""
        with self._turn:
            if (known := self._kept.get(digest)) is not None:
                self._kept.move_to_end(digest)
                return known
        known = self._read(digest)
        with self._turn:
            self._kept[digest] = known
            while len(self._kept) > MAX_KEPT or sum(each.size for each in self._kept.values()) > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)
        return known
